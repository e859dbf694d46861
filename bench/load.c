/*
 * The clients of a measured server, on one thread. Takes key=value arguments, all required:
 *
 *   mode       echo       each client sends a message, waits for as many bytes, and sends again
 *              churn      each connects, sends a message, waits for as many bytes, and closes
 *              broadcast  each sends one message and has it back; then the first one's messages come to all of them
 *              in         one sends `total` bytes and waits for a byte
 *              out        one sends a message and waits for `total` bytes
 *   port       of the server on 127.0.0.1; clients have addresses 127.0.1.1 and up
 *   pid        of the server, whose CPU time and memory are read
 *   clients    that talk at a time
 *   idle       connections that talked once, and then stay open in silence
 *   bytes      of a message
 *   depth      messages of a client that are under way at a time
 *   interval   milliseconds from one message of a client to the next, mode echo; 0: as soon as the answer has come. They
 *              send one after the other; who still waits for an answer leaves one out
 *   warmup     milliseconds at least, and until every client has been answered
 *   ms         that are measured at least, and until a message has been answered, if one can be so soon
 *   wait       1: prints "ready", goes on when a line comes, and keeps all connections until standard input ends; what is
 *              begun is brought to an end before both, so that all the server does belongs to a message that is counted.
 *              256 clients at most talk then, for the server is traced, and slow
 *
 * Prints one line of JSON: see Load in load.ts. Ends with 1 and a line on standard error if the server fails it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
  RECEIVE_BYTES = 256 * 1024,
  EVENTS = 1024,
  CONNECTS_AT_ONCE = 128, /* well below every server's backlog of 511 */
  TRACED_CLIENTS = 256,
  PORTS_PER_ADDRESS = 2000, /* of 28,000: the kernel searches for a free one, for long where few are free */
  SILENCE_MS = 15000, /* of a server that owes an answer */
  CONNECT_MS = 15000, /* until all are connected, and answered once */
  /* Latencies in nanoseconds: 64 buckets for each power of two, so that none is off by more than 1 in 128. */
  SUB_BITS = 6,
  BUCKETS = 64 << SUB_BITS,
};

struct client {
  int fd;
  int is_connected;
  size_t unsent;         /* bytes of messages that the kernel has not taken */
  size_t missing;        /* bytes of answers that have not come */
  uint64_t *sent_at;     /* a ring of `depth`: when each message under way was sent */
  unsigned oldest, next; /* in the ring */
  uint64_t answers;
};

enum phase { PROBE, WARM, MEASURE };

static const char *mode;
static long port, pid, clients, idle, bytes, depth, interval, warmup, ms, hold, total;
static int poller;
static struct epoll_event events[EVENTS];
static char received[RECEIVE_BYTES], *message;
static uint64_t histogram[BUCKETS], messages;
static enum phase phase = PROBE;
static int is_over; /* no more is asked; what is under way comes in */
static size_t answered_once, under_way;
static uint64_t next_at;    /* when the next client sends, where they do so at intervals */
static uint64_t phase_ends; /* at the earliest */

static void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("Cannot measure: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  exit(1);
}

static uint64_t clock_ns(clockid_t clock) {
  struct timespec time;
  if (clock_gettime(clock, &time) != 0) fail("a clock returned %s", strerror(errno));
  return (uint64_t) time.tv_sec * 1000000000 + time.tv_nsec;
}

static uint64_t now(void) {
  return clock_ns(CLOCK_MONOTONIC);
}

/* What the server has used so far: all threads, also those that ended. */
struct usage {
  uint64_t at, server_ns, own_ns;
  unsigned long user, system; /* ticks; the kernel scales them to their exact sum */
};

static struct usage usage(void) {
  struct usage usage = {0};
  char path[64], line[1024];
  snprintf(path, sizeof path, "/proc/%ld/stat", pid);
  FILE *file = fopen(path, "r");
  if (file == NULL || fgets(line, sizeof line, file) == NULL) fail("the server is gone");
  fclose(file);
  sscanf(strrchr(line, ')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &usage.user, &usage.system);
  clockid_t clock;
  if (clock_getcpuclockid(pid, &clock) != 0) fail("the server's CPU clock cannot be read");
  usage.server_ns = clock_ns(clock);
  usage.own_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
  usage.at = now();
  return usage;
}

/* Memory of the server, by its name in proc(5). */
static long kib_of(const char *name) {
  char path[64], line[256];
  long kib = -1;
  snprintf(path, sizeof path, "/proc/%ld/status", pid);
  FILE *file = fopen(path, "r");
  if (file == NULL) fail("the server is gone");
  while (kib == -1 && fgets(line, sizeof line, file) != NULL)
    if (strncmp(line, name, strlen(name)) == 0) sscanf(line + strlen(name), ": %ld kB", &kib);
  fclose(file);
  return kib;
}

static void record(uint64_t ns) {
  if (phase != MEASURE) return;
  int shift = 63 - __builtin_clzll(ns | 1) - SUB_BITS;
  histogram[shift <= 0 ? ns : ((uint64_t) shift << SUB_BITS) + (ns >> shift)]++;
}

/* Microseconds that `share` of all took at most. */
static double percentile(double share) {
  uint64_t all = 0, seen = 0;
  for (int i = 0; i < BUCKETS; i++) all += histogram[i];
  for (int i = 0; i < BUCKETS; i++) {
    seen += histogram[i];
    if (all > 0 && seen >= share * all) {
      int shift = (i >> SUB_BITS) - 1;
      if (shift <= 0) return i / 1e3;
      return ((double) ((i & ((1 << SUB_BITS) - 1)) + (1 << SUB_BITS)) + 0.5) * (1ull << shift) / 1e3;
    }
  }
  return 0;
}

/* A socket with an address of its own, and the connect(2) under way. */
static int dial(int is_blocking) {
  static unsigned dialed;
  unsigned addresses = (clients + idle) / PORTS_PER_ADDRESS + (strcmp(mode, "churn") == 0 ? 16 : 1);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (is_blocking ? 0 : SOCK_NONBLOCK), 0), one = 1;
  if (fd < 0) fail("socket(2) returned %s", strerror(errno));
  struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000101 + dialed++ % addresses)};
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
  /* Without a port: connect(2) chooses one that is free towards this server. */
  setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (bind(fd, (struct sockaddr *) &from, sizeof from) != 0) fail("bind(2) returned %s", strerror(errno));
  if (connect(fd, (struct sockaddr *) &to, sizeof to) != 0 && errno != EINPROGRESS)
    fail("connect(2) returned %s", strerror(errno));
  return fd;
}

static void watch(struct client *client, int operation, unsigned mask) {
  struct epoll_event event = {.events = mask, .data.ptr = client};
  if (epoll_ctl(poller, operation, client->fd, &event) != 0) fail("epoll_ctl(2) returned %s", strerror(errno));
}

static void open_client(struct client *client) {
  client->fd = dial(0);
  client->is_connected = 0;
  watch(client, EPOLL_CTL_ADD, EPOLLOUT);
}

/* What the kernel does not take goes on when it has room. */
static void flush(struct client *client) {
  while (client->unsent > 0) {
    size_t most = client->unsent < (size_t) bytes * depth ? client->unsent : (size_t) bytes * depth;
    ssize_t sent = send(client->fd, message + (bytes - client->unsent % bytes) % bytes, most, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) fail("send(2) returned %s", strerror(errno));
    if (sent < 0) break;
    client->unsent -= sent;
  }
}

/* Sends `count` messages at once. */
static void ask(struct client *client, unsigned count) {
  uint64_t at = now();
  for (unsigned i = 0; i < count; i++) {
    client->sent_at[client->next] = at;
    client->next = (client->next + 1) % depth;
  }
  int was_blocked = client->unsent > 0;
  client->unsent += (size_t) count * bytes;
  client->missing += (size_t) count * bytes;
  under_way += count;
  if (!was_blocked) flush(client);
  if (!was_blocked && client->unsent > 0) watch(client, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
}

/* Takes what has come. Returns how many bytes. */
static size_t take(struct client *client) {
  ssize_t count = recv(client->fd, received, sizeof received, 0);
  if (count < 0 && errno == EAGAIN) return 0;
  if (count < 0) fail("recv(2) returned %s", strerror(errno));
  if (count == 0) fail("the server ended a connection");
  if (phase == PROBE) {
    size_t offset = (bytes - client->missing % bytes) % bytes;
    for (ssize_t i = 0; i < count; i++)
      if (received[i] != message[(offset + i) % bytes]) fail("the server's answer is not what it was sent");
  }
  if (strcmp(mode, "broadcast") != 0 && (size_t) count > client->missing) fail("the server sent too much");
  return count;
}

static int ready(void) {
  int waits = phase != PROBE && interval > 0 && !is_over;
  uint64_t at = now(), next = next_at < phase_ends ? next_at : phase_ends;
  int timeout = !waits ? SILENCE_MS : next <= at ? 1 : (int) ((next - at + 999999) / 1000000);
  int count = epoll_wait(poller, events, EVENTS, timeout);
  if (count == 0 && !waits) fail("the server has not answered for %d s", SILENCE_MS / 1000);
  return count < 0 ? 0 : count;
}

static int may_send(struct client *client, unsigned mask) {
  if ((mask & EPOLLOUT) == 0) return 0;
  if (!client->is_connected) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) fail("connect(2) returned %s", strerror(error));
    client->is_connected = 1;
    watch(client, EPOLL_CTL_MOD, EPOLLIN);
    return 1;
  }
  flush(client);
  if (client->unsent == 0) watch(client, EPOLL_CTL_MOD, EPOLLIN);
  return 0;
}

/* Connects `count` clients, each of which is answered once: then the server has accepted it. */
static void connect_all(struct client *all, size_t count) {
  size_t opened = 0, done = 0;
  uint64_t until = now() + CONNECT_MS * 1000000ull;
  while (done < count) {
    if (now() > until) fail("within %d s the server has accepted %zu of %zu clients", CONNECT_MS / 1000, done, count);
    while (opened < count && opened - done < CONNECTS_AT_ONCE) open_client(&all[opened++]);
    for (int i = 0, n = ready(); i < n; i++) {
      struct client *client = events[i].data.ptr;
      if (may_send(client, events[i].events)) ask(client, 1);
      if ((events[i].events & ~EPOLLOUT) == 0) continue;
      client->missing -= take(client);
      if (client->missing == 0) {
        under_way--;
        done++;
      }
    }
  }
}

/* The answers that are complete are replaced by as many messages. */
static void echo_event(struct client *client, unsigned mask) {
  may_send(client, mask);
  if ((mask & ~EPOLLOUT) == 0) return;
  size_t before = (client->missing + bytes - 1) / bytes;
  client->missing -= take(client);
  unsigned answers = before - (client->missing + bytes - 1) / bytes;
  if (answers == 0) return;
  uint64_t at = now();
  for (unsigned i = 0; i < answers; i++) {
    record(at - client->sent_at[client->oldest]);
    client->oldest = (client->oldest + 1) % depth;
  }
  messages += answers;
  if (client->answers == 0) answered_once++;
  client->answers += answers;
  under_way -= answers;
  if (!is_over && interval == 0) ask(client, answers);
}

static void send_at_intervals(struct client *all) {
  static long turn;
  for (; interval > 0 && !is_over && now() >= next_at; next_at += interval * 1000000 / clients, turn = (turn + 1) % clients)
    if (all[turn].missing == 0) ask(&all[turn], depth);
}

static void churn_begin(struct client *client) {
  client->sent_at[1] = now(); /* the ring is the first only */
  under_way++;
  open_client(client);
}

static void churn_event(struct client *client, unsigned mask) {
  if (may_send(client, mask)) ask(client, 1);
  if ((mask & ~EPOLLOUT) == 0) return;
  client->missing -= take(client);
  if (client->missing > 0) return;
  record(now() - client->sent_at[1]);
  messages++;
  if (client->answers++ == 0) answered_once++;
  close(client->fd);
  under_way -= 2; /* the connection and its message */
  if (!is_over) churn_begin(client);
}

/* When the last has the message, the first sends the next one. */
static void broadcast_event(struct client *all, struct client *client, unsigned mask) {
  static size_t undelivered;
  if (client == NULL) { /* the first message */
    undelivered = (size_t) clients * bytes;
    return ask(all, 1);
  }
  may_send(client, mask);
  if ((mask & ~EPOLLOUT) == 0) return;
  undelivered -= take(client);
  if (undelivered > 0) return;
  record(now() - all->sent_at[all->oldest]);
  all->oldest = all->next;
  messages += clients;
  answered_once = clients;
  under_way--;
  undelivered = (size_t) clients * bytes;
  if (!is_over) ask(all, 1);
}

static void turn(struct client *all) {
  send_at_intervals(all);
  for (int i = 0, n = ready(); i < n; i++) {
    struct client *client = events[i].data.ptr;
    if (strcmp(mode, "echo") == 0) echo_event(client, events[i].events);
    else if (strcmp(mode, "churn") == 0) churn_event(client, events[i].events);
    else broadcast_event(all, client, events[i].events);
  }
}

/* The first `count` clients begin; a broadcast has but one that does. */
static void begin(struct client *all, long count) {
  is_over = 0;
  next_at = now() + interval * 1000000 / clients;
  for (long i = 0; i < count; i++) {
    if (strcmp(mode, "broadcast") == 0) return broadcast_event(all, NULL, 0);
    if (strcmp(mode, "churn") == 0) churn_begin(&all[i]);
    else ask(&all[i], depth);
  }
}

/* Until all that is under way is here. */
static void come_in(struct client *all) {
  is_over = 1;
  while (under_way > 0) turn(all);
}

static void say_ready(void) {
  puts("ready");
  fflush(stdout);
  while (getchar() != '\n') {
    if (feof(stdin)) exit(0);
  }
}

static struct usage talk(void) {
  struct client *all = calloc(clients + idle, sizeof *all);
  for (long i = 0; i < clients + idle; i++) all[i].sent_at = calloc(i < clients ? depth + 1 : 2, sizeof(uint64_t));
  if (strcmp(mode, "churn") != 0) {
    connect_all(all + clients, idle);
    connect_all(all, clients);
  }
  for (long i = 0; i < clients; i++) all[i].oldest = all[i].next = 0;
  phase = WARM;
  begin(all, clients);
  phase_ends = now() + warmup * 1000000;
  while (now() < phase_ends || answered_once < (size_t) clients) {
    turn(all);
    if (now() > phase_ends + CONNECT_MS * 1000000ull)
      fail("within %d s the server has answered %zu of %ld clients at once", CONNECT_MS / 1000, answered_once, clients);
  }
  if (hold) {
    come_in(all);
    say_ready();
    begin(all, clients < TRACED_CLIENTS ? clients : TRACED_CLIENTS);
  }
  phase = MEASURE;
  messages = 0;
  struct usage begun = usage();
  phase_ends = begun.at + ms * 1000000;
  while (now() < phase_ends || (messages == 0 && (interval == 0 || interval < ms))) turn(all);
  if (hold) come_in(all);
  return begun;
}

/* Bulk, one way. `messages` are MiB. */
static struct usage pour(void) {
  int fd = dial(1), is_in = strcmp(mode, "in") == 0;
  struct timeval silence = {.tv_sec = SILENCE_MS / 1000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &silence, sizeof silence);
  if (hold) say_ready();
  struct usage begun = usage();
  if (!is_in && send(fd, message, bytes, MSG_NOSIGNAL) != bytes) fail("send(2) returned %s", strerror(errno));
  for (long left = total; left > 0;) {
    size_t most = left < RECEIVE_BYTES ? left : RECEIVE_BYTES;
    ssize_t count = is_in ? send(fd, received, most, MSG_NOSIGNAL) : recv(fd, received, most, 0);
    if (count <= 0) fail("%s(2) returned %s", is_in ? "send" : "recv", count == 0 ? "0" : strerror(errno));
    left -= count;
  }
  if (is_in && recv(fd, received, 1, 0) != 1) fail("the server did not say that it has got everything");
  messages = total / (1024 * 1024);
  return begun;
}

static void parse(int count, char **arguments) {
  struct {
    const char *key;
    long *value;
  } keys[] = {{"port", &port},     {"pid", &pid}, {"clients", &clients}, {"idle", &idle},   {"bytes", &bytes},
              {"depth", &depth},   {"warmup", &warmup}, {"ms", &ms},     {"wait", &hold},   {"total", &total},
              {"interval", &interval}};
  for (int i = 1; i < count; i++) {
    char *value = strchr(arguments[i], '=');
    if (value == NULL) fail("\"%s\" is not key=value", arguments[i]);
    *value++ = '\0';
    if (strcmp(arguments[i], "mode") == 0) mode = value;
    for (size_t j = 0; j < sizeof keys / sizeof *keys; j++)
      if (strcmp(arguments[i], keys[j].key) == 0) *keys[j].value = atol(value);
  }
  if (mode == NULL || port == 0 || pid == 0 || clients == 0 || bytes == 0 || depth == 0)
    fail("mode, port, pid, clients, bytes and depth must be given");
}

int main(int count, char **arguments) {
  parse(count, arguments);
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  message = malloc(2 * bytes * depth);
  for (long i = 0; i < 2 * bytes * depth; i++) message[i] = i % bytes % 251;
  poller = epoll_create1(EPOLL_CLOEXEC);
  int is_bulk = strcmp(mode, "in") == 0 || strcmp(mode, "out") == 0;
  struct usage begun = is_bulk ? pour() : talk(), over = usage();
  printf("{\"seconds\":%.6f,\"messages\":%lu,\"p50\":%.2f,\"p99\":%.2f,\"p999\":%.2f,"
         "\"serverSeconds\":%.6f,\"userTicks\":%lu,\"systemTicks\":%lu,\"loadSeconds\":%.6f,\"residentKiB\":%ld,"
         "\"anonymousKiB\":%ld}\n",
         (over.at - begun.at) / 1e9, messages, percentile(0.5), percentile(0.99), percentile(0.999),
         (over.server_ns - begun.server_ns) / 1e9, over.user - begun.user, over.system - begun.system,
         (over.own_ns - begun.own_ns) / 1e9, kib_of("VmRSS"), kib_of("RssAnon"));
  fflush(stdout);
  if (hold) while (getchar() != EOF);
  return 0;
}
