/* What a C programmer would write: level-triggered epoll, one thread. Arguments: mode and, for bulk, bytes: see ../workloads.ts. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER = 65536, EVENTS = 1024, REQUEST = 64 };
struct client { int fd; long member; char *rest; size_t queued; long left; }; /* member: its place, from 1; 0: none */
static int poller;
static char mode, received[BUFFER], answers[BUFFER];
static long total, members;
static struct client *all[1 << 20];

static void watch(struct client *client, int operation, unsigned mask) {
  epoll_ctl(poller, operation, client->fd, &(struct epoll_event){.events = mask, .data.ptr = client});
}

/* What the kernel does not take is copied, and nothing more is read from this client until it is gone. */
static void put(struct client *client, const char *bytes, size_t length) {
  ssize_t sent = client->queued > 0 ? 0 : send(client->fd, bytes, length, MSG_NOSIGNAL);
  if (sent == (ssize_t) length) return;
  if (sent < 0) sent = 0; /* not EAGAIN: epoll tells */
  client->rest = realloc(client->rest, client->queued + length - sent);
  memcpy(client->rest + client->queued, bytes + sent, length - sent);
  client->queued += length - sent;
  watch(client, EPOLL_CTL_MOD, EPOLLOUT);
}

static void writable(struct client *client) {
  ssize_t sent = client->queued > 0 ? send(client->fd, client->rest, client->queued, MSG_NOSIGNAL) : 0;
  if (sent > 0) memmove(client->rest, client->rest + sent, client->queued -= sent);
  for (sent = 1; client->left > 0 && sent > 0; client->left -= sent > 0 ? sent : 0) /* mode out */
    sent = send(client->fd, answers, client->left < BUFFER ? client->left : BUFFER, MSG_NOSIGNAL);
  watch(client, EPOLL_CTL_MOD, client->queued > 0 || client->left > 0 ? EPOLLOUT : EPOLLIN);
}

static void take(struct client *client, const char *bytes, long length) {
  if (mode == 'e') return put(client, bytes, length);
  for (long at = 0; mode == 'r' && at < length; at += REQUEST) /* an answer for each request, all in one call */
    memcpy(answers + at, bytes + at, length - at < REQUEST ? length - at : REQUEST);
  if (mode == 'r') return put(client, answers, length);
  if (mode == 'i' && (client->left += length) >= total) return client->left = 0, put(client, "", 1);
  if (mode == 'o') return client->left = total, writable(client);
  if (mode == 'b' && client->member == 0) return all[client->member = ++members] = client, put(client, bytes, length);
  for (long i = 1; mode == 'b' && i <= members; i++) put(all[i], bytes, length);
}

static void readable(struct client *client) {
  ssize_t length = recv(client->fd, received, BUFFER, 0);
  if (length > 0) return take(client, received, length);
  if (client->member > 0) (all[client->member] = all[members--])->member = client->member;
  close(client->fd);
  free(client->rest);
  free(client);
}

int main(int count, char **arguments) {
  mode = count > 1 ? arguments[1][0] : 'e', total = count > 2 ? atol(arguments[2]) : 0;
  struct client listener = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)};
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  bind(listener.fd, (struct sockaddr *) &address, sizeof address), listen(listener.fd, 511);
  getsockname(listener.fd, (struct sockaddr *) &address, &(socklen_t){sizeof address});
  poller = epoll_create1(0), watch(&listener, EPOLL_CTL_ADD, EPOLLIN);
  printf("%d\n", ntohs(address.sin_port)), fflush(stdout);
  for (struct epoll_event events[EVENTS];;)
    for (int i = 0, ready = epoll_wait(poller, events, EVENTS, -1); i < ready; i++) {
      struct client *client = events[i].data.ptr;
      if (client != &listener && (events[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) == EPOLLOUT) writable(client);
      else if (client != &listener) readable(client);
      else for (int fd; (fd = accept4(listener.fd, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        *(client = calloc(1, sizeof *client)) = (struct client){.fd = fd}, watch(client, EPOLL_CTL_ADD, EPOLLIN);
      }
    }
}
