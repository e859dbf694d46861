const listener = Bun.listen({
  hostname: "127.0.0.1",
  port: 0,
  socket: {
    data(socket, bytes) {
      socket.write(bytes);
    },
  },
});
console.log(listener.port);
