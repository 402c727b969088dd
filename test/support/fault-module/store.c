/*
 * A token whose library reads its store only when it is initialised, as the library of a TPM does. It works on a copy
 * of SoftHSM's token folder, made at initialisation. Objects that this process makes or destroys are copied to or
 * removed from the real folder. Changes by other processes are not seen: objects that they destroyed still work.
 */
#define _GNU_SOURCE
#include "fault.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *origin, *copy;

/* The folder that the configuration names in `directories.tokendir`. */
static char *token_folder(const char *configuration) {
  FILE *file = configuration == NULL ? NULL : fopen(configuration, "re");
  char *line = NULL, *found = NULL;
  size_t size = 0;
  while (file != NULL && found == NULL && getline(&line, &size, file) >= 0)
    if (sscanf(line, " directories.tokendir = %ms", &found) != 1) found = NULL;
  free(line);
  if (file != NULL) fclose(file);
  return found;
}

static void shell(const char *script) {
  char *command;
  if (asprintf(&command, "O='%s' C='%s'; set -e; %s", origin, copy, script) < 0) abort();
  if (system(command) != 0) {
    fprintf(stderr, "fault-module: store-at-load failed: %s\n", script);
    abort();
  }
  free(command);
}

void store_load(void) {
  if (origin == NULL) origin = token_folder(getenv("SOFTHSM2_CONF"));
  if (origin == NULL) return;
  if (copy == NULL) {
    if (asprintf(&copy, "%s.%d", beside_module(".store"), getpid()) < 0) abort();
    char *configuration;
    if (asprintf(&configuration, "%s.conf", copy) < 0) abort();
    FILE *file = fopen(configuration, "we");
    if (file == NULL) abort();
    fprintf(file, "directories.tokendir = %s/tokens\nobjectstore.backend = file\nlog.level = ERROR\n", copy);
    fclose(file);
    setenv("SOFTHSM2_CONF", configuration, 1);
    free(configuration);
  }
  shell("rm -rf \"$C\"; mkdir \"$C\"; cp -a \"$O\" \"$C/tokens\"; cd \"$C/tokens\"; find . -type f | sort > ../known");
}

void store_write_back(void) {
  if (copy == NULL) return;
  pthread_mutex_lock(&lock);
  shell("cd \"$C/tokens\"; find . -type f | sort > ../now;"
        "comm -13 ../known ../now | while read -r f; do cp -p \"$f\" \"$O/$f\"; done;"
        "comm -23 ../known ../now | while read -r f; do rm -f \"$O/$f\"; done;"
        "mv ../now ../known; for f in */generation; do cp -p \"$f\" \"$O/$f\"; done");
  pthread_mutex_unlock(&lock);
}
