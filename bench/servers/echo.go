// What a Go programmer would write: a goroutine a connection. Arguments: mode and, for bulk, bytes: see ../workloads.ts.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
)

const (
	request = 64
	buffer  = 64 * 1024
	small   = 16 * 1024
)

var (
	total   int
	members = map[net.Conn]bool{}
	lock    sync.Mutex
)

func main() {
	mode := os.Args[1]
	total, _ = strconv.Atoi(os.Args[2])
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	serve := map[string]func(net.Conn){"echo": echo, "requests": requests, "in": in, "out": out, "broadcast": broadcast}[mode]
	for {
		connection, err := listener.Accept() // with TCP_NODELAY, which is Go's default
		if err != nil {
			panic(err)
		}
		go func() {
			defer connection.Close()
			serve(connection)
		}()
	}
}

func echo(connection net.Conn) {
	bytes := make([]byte, small)
	for {
		count, err := connection.Read(bytes)
		if err != nil {
			return
		}
		if _, err := connection.Write(bytes[:count]); err != nil {
			return
		}
	}
}

func requests(connection net.Conn) {
	reader := bufio.NewReaderSize(connection, buffer)
	writer := bufio.NewWriterSize(connection, buffer)
	bytes := make([]byte, request)
	for {
		if _, err := io.ReadFull(reader, bytes); err != nil {
			return
		}
		writer.Write(bytes)
		if reader.Buffered() == 0 && writer.Flush() != nil {
			return
		}
	}
}

func in(connection net.Conn) {
	bytes := make([]byte, buffer)
	for left := total; ; {
		count, err := connection.Read(bytes)
		if err != nil {
			return
		}
		if left -= count; left == 0 {
			connection.Write(bytes[:1])
		}
	}
}

func out(connection net.Conn) {
	bytes := make([]byte, buffer)
	if _, err := connection.Read(bytes); err != nil {
		return
	}
	for left := total; left > 0; left -= buffer {
		if _, err := connection.Write(bytes); err != nil {
			return
		}
	}
	connection.Read(bytes)
}

func broadcast(connection net.Conn) {
	bytes := make([]byte, small)
	defer func() {
		lock.Lock()
		delete(members, connection)
		lock.Unlock()
	}()
	for {
		count, err := connection.Read(bytes)
		if err != nil {
			return
		}
		lock.Lock()
		if members[connection] {
			for member := range members {
				member.Write(bytes[:count])
			}
		} else {
			connection.Write(bytes[:count])
			members[connection] = true
		}
		lock.Unlock()
	}
}
