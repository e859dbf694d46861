/* What wake.ts does, with as little as the kernel asks for: `wake COUNT`. Source: eventfd(2), epoll(7). */
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { WARM = 20, PAUSE_NS = 10 * 1000 * 1000 };

static int event;
static double woken_at;
static sem_t seen;

static double now_micros(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static void *wake(void *unused) {
  const uint64_t one = 1;
  for (;;) {
    nanosleep(&(struct timespec){ .tv_nsec = PAUSE_NS }, NULL);
    woken_at = now_micros();
    if (write(event, &one, sizeof one) < 0) abort();
    sem_wait(&seen);
  }
  return unused;
}

static int ascending(const void *a, const void *b) {
  return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

int main(int count_of_arguments, char **arguments) {
  int count = count_of_arguments > 1 ? atoi(arguments[1]) : 0;
  if (count < 1) return fprintf(stderr, "usage: wake COUNT\n"), 2;
  double *micros = malloc(count * sizeof *micros);
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event ready = { .events = EPOLLIN };
  pthread_t thread;
  event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  epoll_ctl(epoll, EPOLL_CTL_ADD, event, &ready);
  sem_init(&seen, 0, 0);
  if (pthread_create(&thread, NULL, wake, NULL) != 0) return perror("pthread_create"), 1;
  for (int i = -WARM; i < count; i++) {
    uint64_t wakes;
    if (epoll_wait(epoll, &ready, 1, -1) != 1 || read(event, &wakes, sizeof wakes) < 0) return perror("epoll_wait"), 1;
    if (i >= 0) micros[i] = now_micros() - woken_at;
    sem_post(&seen);
  }
  qsort(micros, count, sizeof *micros, ascending);
  printf("{\"p50\":%.3f,\"p99\":%.3f}\n", micros[count / 2], micros[count * 99 / 100]);
}
