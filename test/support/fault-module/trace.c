/*
 * Records calls: a counter per function in a file that processes share and that outlives a crash, and one line per call
 * of the functions that the control file names. README.md describes both formats.
 */
#define _GNU_SOURCE
#include "fault.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct counter {
  char name[32];
  _Atomic unsigned long calls;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *mapped_path;
static struct counter *mapped;

static struct counter *map(const char *path) {
  size_t size = sizeof(struct counter) * FUNCTION_COUNT;
  int file = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  if (file < 0) return NULL;
  struct counter *made = MAP_FAILED;
  struct stat found;
  if (fstat(file, &found) == 0 && ((size_t)found.st_size >= size || ftruncate(file, (off_t)size) == 0))
    made = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (made == MAP_FAILED) return NULL;
  for (int i = 0; i < FUNCTION_COUNT; i++) snprintf(made[i].name, sizeof made[i].name, "%s", function_names[i]);
  return made;
}

void trace_count(const struct control *now, enum function function) {
  if (now->count_file == NULL) return;
  pthread_mutex_lock(&lock);
  if (mapped_path == NULL || strcmp(mapped_path, now->count_file) != 0) {
    free(mapped_path); /* keep the earlier mapping: another thread may be about to write to it */
    mapped_path = strdup(now->count_file);
    mapped = map(mapped_path);
  }
  struct counter *counters = mapped;
  pthread_mutex_unlock(&lock);
  if (counters != NULL) atomic_fetch_add(&counters[function].calls, 1);
}

static double clock_ms(clockid_t clock) {
  struct timespec at;
  clock_gettime(clock, &at);
  return (double)at.tv_sec * 1000 + (double)at.tv_nsec / 1e6;
}

double now_ms(void) { return clock_ms(CLOCK_REALTIME); }

void trace_log(enum function function, CK_RV rv, double started_ms) {
  const char *path = getenv("FAULT_MODULE_LOG");
  if (path == NULL) path = beside_module(".log");
  int file = path == NULL ? -1 : open(path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
  if (file < 0) return;
  char line[160];
  int length = snprintf(line, sizeof line, "%s rv=0x%lX pid=%d tid=%d at=%.3f ms=%.3f\n", function_names[function], rv,
                        (int)getpid(), (int)gettid(), started_ms, now_ms() - started_ms);
  if (write(file, line, (size_t)length) != length) fprintf(stderr, "fault-module: cannot write the log\n");
  close(file);
}
