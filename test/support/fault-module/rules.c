/*
 * Decides which rules fire at a call, and carries them out. Holds no lock while it does.
 */
#define _GNU_SOURCE
#include "fault.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static bool fires(struct rule *rule) {
  if (rule->probability < 1) {
    unsigned int drawn;
    random_bytes((CK_BYTE *)&drawn, sizeof drawn);
    if (drawn / 4294967296.0 >= rule->probability) return false;
  }
  unsigned long seen = atomic_fetch_add(&rule->seen, 1);
  if (seen < rule->skip || (rule->count != NO_LIMIT && seen - rule->skip >= rule->count)) return false;
  if (rule->once != NULL) {
    int file = open(rule->once, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (file < 0) return false;
    close(file);
  }
  return true;
}

static void die(int signal_) {
  struct rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  signal(signal_, SIG_DFL);
  raise(signal_);
  _exit(128 + signal_);
}

static void sleep_ms(CK_ULONG ms) {
  struct timespec left = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

static void leak(size_t size) {
  char *lost = malloc(size);
  if (lost == NULL) return;
  memset(lost, 1, size); /* written, so that it counts as resident */
  __asm__ volatile("" : : "r"(lost) : "memory");
}

/* Starts a child that outlives its parent and holds none of its files open. */
static void leave_child(const char *file) {
  if (fork() != 0) return;
  for (int fd = 0; fd < 1024; fd++) close(fd);
  while (access(file, F_OK) == 0) sleep_ms(10);
  _exit(0);
}

bool rules_apply(struct control *now, enum function function, bool after, CK_RV *rv) {
  bool decided = false;
  for (size_t i = 0; i < now->rule_count; i++) {
    struct rule *rule = &now->rules[i];
    bool every = rule->function == F_EVERY && function != F_C_GetFunctionList && function < FUNCTION_COUNT;
    if ((rule->function != function && !every) || rule->after != after || rule->action == ACTION_ALTER) continue;
    if ((rule->failed && *rv == CKR_OK) || !fires(rule)) continue;
    switch (rule->action) {
    case ACTION_SLEEP: sleep_ms(rule->argument); break;
    case ACTION_HANG:
      for (;;) pause();
    case ACTION_RV:
      if (!decided) *rv = rule->argument;
      decided = true;
      break;
    case ACTION_ABORT: die(SIGABRT); break;
    case ACTION_SEGV: die(SIGSEGV); break;
    case ACTION_EXIT: _exit((int)rule->argument);
    case ACTION_LEAK: leak(rule->argument); break;
    case ACTION_FORK: leave_child(rule->file); break;
    case ACTION_UNTIL:
      while (access(rule->file, F_OK) != 0) sleep_ms(5);
      break;
    case ACTION_ALTER: break; /* done by rules_alter, once the call has an output */
    }
  }
  return decided;
}

void rules_alter(enum function function, CK_BYTE *out, CK_ULONG length) {
  if (out == NULL || length == 0) return;
  for (size_t i = 0; i < control->rule_count; i++) {
    struct rule *rule = &control->rules[i];
    if (rule->action == ACTION_ALTER && rule->function == function && fires(rule)) out[rule->argument % length] ^= 1;
  }
}
