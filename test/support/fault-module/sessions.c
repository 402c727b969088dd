/*
 * The sessions opened through this module. The lock guards the table only: the state of a session is used by one
 * thread at a time, as PKCS#11 requires of the application.
 */
#define _GNU_SOURCE
#include "fault.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct session **table;
static size_t used, room;

static void forget(size_t index) {
  free(table[index]->decrypt.parameters.aad);
  free(table[index]);
  table[index] = table[--used];
}

void sessions_add(CK_SESSION handle, CK_SLOT_ID slot) {
  struct session *made = calloc(1, sizeof *made);
  if (made == NULL) abort();
  made->handle = handle;
  made->slot = slot;
  pthread_mutex_lock(&lock);
  if (used == room) {
    room = room == 0 ? 64 : room * 2;
    table = realloc(table, room * sizeof *table);
    if (table == NULL) abort();
  }
  table[used++] = made;
  pthread_mutex_unlock(&lock);
}

void sessions_remove(CK_SESSION handle) {
  pthread_mutex_lock(&lock);
  for (size_t i = used; i-- > 0;)
    if (table[i]->handle == handle) forget(i);
  pthread_mutex_unlock(&lock);
}

void sessions_remove_slot(CK_SLOT_ID slot) {
  pthread_mutex_lock(&lock);
  for (size_t i = used; i-- > 0;)
    if (table[i]->slot == slot) forget(i);
  pthread_mutex_unlock(&lock);
}

void sessions_clear(void) {
  pthread_mutex_lock(&lock);
  while (used > 0) forget(used - 1);
  pthread_mutex_unlock(&lock);
}

size_t sessions_open(void) {
  size_t open = 0;
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < used; i++) open += !table[i]->lost;
  pthread_mutex_unlock(&lock);
  return open;
}

struct session *sessions_find(CK_SESSION handle) {
  struct session *found = NULL;
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < used && found == NULL; i++)
    if (table[i]->handle == handle) found = table[i];
  pthread_mutex_unlock(&lock);
  return found;
}

void sessions_logout(void) {
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < used; i++) {
    bool skip = table[i]->lost; /* one logout per slot, through a session that still exists */
    for (size_t j = 0; j < i; j++) skip |= table[j]->slot == table[i]->slot && !table[j]->lost;
    if (!skip) target->C_Logout(table[i]->handle);
  }
  pthread_mutex_unlock(&lock);
}

/* Ends the sessions, which also ends the login. */
void sessions_lose(void) {
  sessions_logout();
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < used; i++) table[i]->lost = true;
  pthread_mutex_unlock(&lock);
}

/* ---- a limit over all processes: a line "PID SESSIONS" for each of them in a file ---- */

/* Replaces the line of this process; returns the sessions of the other processes that are alive. */
static size_t publish(size_t own) {
  char text[4096], next[4096] = "";
  size_t others = 0, used_bytes = 0;
  int file = open(control->session_file, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  if (file < 0 || flock(file, LOCK_EX) != 0) abort();
  ssize_t length = pread(file, text, sizeof text - 1, 0);
  text[length < 0 ? 0 : length] = '\0';
  char *rest = NULL;
  for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
    int pid;
    size_t count;
    if (sscanf(line, "%d %zu", &pid, &count) != 2 || pid == getpid() || kill(pid, 0) != 0) continue;
    others += count;
    used_bytes += (size_t)snprintf(next + used_bytes, sizeof next - used_bytes, "%d %zu\n", pid, count);
  }
  used_bytes += (size_t)snprintf(next + used_bytes, sizeof next - used_bytes, "%d %zu\n", getpid(), own);
  if (ftruncate(file, 0) != 0 || pwrite(file, next, used_bytes, 0) < 0) abort();
  close(file);
  return others;
}

CK_RV sessions_reserve(void) {
  size_t own = sessions_open();
  size_t others = control->session_file == NULL ? 0 : publish(own);
  return own + others >= control->session_limit ? CKR_SESSION_COUNT : CKR_OK;
}

void sessions_publish(void) {
  if (control->session_file != NULL) publish(sessions_open());
}
