/*
 * Parses the control file, and reads it again when it has changed. Once parsed, a control changes only in the counters
 * of its rules. A call keeps the control it started with, so that no lock is held while a rule sleeps.
 */
#define _GNU_SOURCE
#include "fault.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct control *current;
static struct stat current_stat;

const char *beside_module(const char *suffix) {
  static _Thread_local char path[4096];
  Dl_info info;
  if (dladdr((void *)(size_t)&beside_module, &info) == 0 || info.dli_fname == NULL) return NULL;
  snprintf(path, sizeof path, "%s%s", info.dli_fname, suffix);
  return path;
}

/* ---- parsing ---- */

/* An unknown rule ends the process: a test must not mistake it for a rule that did not fire. */
static void refuse(int number, const char *word) {
  fprintf(stderr, "fault-module: control file, line %d: \"%s\" is not understood\n", number, word);
  abort();
}

static const char *next_word(char **rest) { return strtok_r(NULL, " \t", rest); }

static CK_ULONG number_word(const char *word, int line) {
  char *end;
  if (word == NULL) refuse(line, "(a number is missing)");
  errno = 0;
  CK_ULONG value = strtoul(word, &end, 0);
  if (errno != 0 || *end != '\0' || end == word) refuse(line, word);
  return value;
}

static char *text_word(const char *word, int line) {
  if (word == NULL) refuse(line, "(a path is missing)");
  return strdup(word);
}

static bool function_named(const char *name, enum function *function) {
  if (strcmp(name, "*") == 0) return *function = F_EVERY, true;
  if (strcmp(name, "at-load") == 0) return *function = F_AT_LOAD, true;
  if (strcmp(name, "at-exit") == 0) return *function = F_AT_EXIT, true;
  for (int i = 0; i < FUNCTION_COUNT; i++)
    if (strcmp(name, function_names[i]) == 0) return *function = (enum function)i, true;
  return false;
}

static void parse_list(struct list *list, char **rest, int line) {
  size_t before = list->length;
  for (const char *word; (word = next_word(rest)) != NULL;) {
    char *copy = strdup(word), *inner = NULL;
    for (char *item = strtok_r(copy, ",", &inner); item != NULL; item = strtok_r(NULL, ",", &inner)) {
      if (list->length == LIST_LIMIT) refuse(line, item);
      list->items[list->length++] = number_word(item, line);
    }
    free(copy);
  }
  if (list->length == before) refuse(line, "(an item is missing)");
}

/* `valued`: the second word is a value, not an error. */
static void parse_attribute_rule(struct attribute_rules *rules, bool valued, char **rest, int line) {
  if (rules->length == ATTRIBUTE_RULE_LIMIT) refuse(line, "(too many attributes)");
  struct attribute_rule *rule = &rules->items[rules->length++];
  rule->type = number_word(next_word(rest), line);
  CK_ULONG second = number_word(next_word(rest), line);
  rule->rv = valued ? CKR_OK : second;
  rule->value = valued ? second : ANY_VALUE;
}

/* The functions that call rules_alter. */
static bool has_output(enum function function) {
  return function == F_C_Encrypt || function == F_C_Decrypt || function == F_C_Sign || function == F_C_WrapKey ||
         function == F_C_EncryptInit || function == F_C_GetAttributeValue;
}

static void parse_rule(struct control *made, enum function function, char **rest, int line) {
  static const struct { const char *name; enum action action; enum { NONE, NUMBER, PATH } argument; } actions[] = {
      {"sleep", ACTION_SLEEP, NUMBER}, {"hang", ACTION_HANG, NONE}, {"rv", ACTION_RV, NUMBER},
      {"abort", ACTION_ABORT, NONE}, {"segv", ACTION_SEGV, NONE}, {"exit", ACTION_EXIT, NUMBER},
      {"leak", ACTION_LEAK, NUMBER}, {"alter", ACTION_ALTER, NUMBER}, {"fork", ACTION_FORK, PATH},
      {"until", ACTION_UNTIL, PATH}};
  if (made->rule_count == RULE_LIMIT) refuse(line, "(too many rules)");
  struct rule *rule = &made->rules[made->rule_count++];
  rule->function = function;
  rule->probability = 1;
  rule->count = NO_LIMIT;
  const char *word = next_word(rest);
  size_t i = 0;
  while (word != NULL && i < sizeof actions / sizeof *actions && strcmp(word, actions[i].name) != 0) i++;
  if (word == NULL || i == sizeof actions / sizeof *actions) refuse(line, word == NULL ? "(an action is missing)" : word);
  rule->action = actions[i].action;
  if (actions[i].argument == NUMBER) rule->argument = number_word(next_word(rest), line);
  if (actions[i].argument == PATH) rule->file = text_word(next_word(rest), line);
  if (rule->action == ACTION_ALTER && !has_output(function)) refuse(line, word);
  while ((word = next_word(rest)) != NULL) {
    if (strcmp(word, "after") == 0) rule->after = true;
    else if (strcmp(word, "failed") == 0) rule->after = rule->failed = true;
    else if (strncmp(word, "count=", 6) == 0) rule->count = number_word(word + 6, line);
    else if (strncmp(word, "skip=", 5) == 0) rule->skip = number_word(word + 5, line);
    else if (strncmp(word, "once=", 5) == 0) rule->once = text_word(word + 5, line);
    else if (strncmp(word, "p=", 2) == 0) {
      char *end;
      rule->probability = strtod(word + 2, &end);
      if (*end != '\0' || end == word + 2) refuse(line, word);
    } else refuse(line, word);
  }
}

static void parse_gcm(struct control *made, const char *word, int line) {
  static const struct { const char *name; enum gcm_place place; CK_ULONG length; bool own; } modes[] = {
      {"caller", GCM_CALLER, 12, false}, {"written", GCM_WRITTEN, 12, false},
      {"written-late", GCM_WRITTEN_LATE, 12, false}, {"appended12", GCM_APPENDED, 12, false},
      {"appended16", GCM_APPENDED, 16, false}, {"prepended", GCM_PREPENDED, 12, false},
      {"appended12-own", GCM_APPENDED, 12, true}, {"appended16-own", GCM_APPENDED, 16, true},
      {"prepended-own", GCM_PREPENDED, 12, true}};
  for (size_t i = 0; word != NULL && i < sizeof modes / sizeof *modes; i++)
    if (strcmp(word, modes[i].name) == 0) {
      made->gcm_place = modes[i].place;
      made->gcm_iv_length = modes[i].length;
      made->gcm_own = modes[i].own;
      return;
    }
  refuse(line, word == NULL ? "(a mode is missing)" : word);
}

/* Returns false for a setting that is not of quirks.c. */
static bool parse_quirk(struct control *made, const char *name, char **rest, int line) {
  const char *word;
  if (strcmp(name, "lacks") == 0)
    while ((word = next_word(rest)) != NULL) {
      enum function function;
      if (!function_named(word, &function) || function >= FUNCTION_COUNT) refuse(line, word);
      made->lacks[function] = true;
    }
  else if (strcmp(name, "no-locking") == 0) made->no_locking = number_word(next_word(rest), line);
  else if (strcmp(name, "no-initialize-arguments") == 0) made->no_initialize_arguments = number_word(next_word(rest), line);
  else if (strcmp(name, "one-thread") == 0) made->one_thread = true;
  else if (strcmp(name, "handles-per-session") == 0) made->handles_per_session = true;
  else if (strcmp(name, "found-twice") == 0) made->found_twice = true;
  else if (strcmp(name, "found-limit") == 0) made->found_limit = number_word(next_word(rest), line);
  else if (strcmp(name, "late-objects") == 0) made->late_objects_ms = number_word(next_word(rest), line);
  else if (strcmp(name, "session-state") == 0) made->session_state = number_word(next_word(rest), line);
  else if (strcmp(name, "nul-padding") == 0) made->nul_padding = true;
  else if (strcmp(name, "token-flags") == 0) {
    made->flags_cleared = number_word(next_word(rest), line);
    made->flags_set = number_word(next_word(rest), line);
  } else if (strcmp(name, "wide-booleans") == 0) made->wide_booleans = number_word(next_word(rest), line);
  else if (strcmp(name, "extra-slots") == 0) made->extra_slots = number_word(next_word(rest), line);
  else if (strcmp(name, "unavailable-attribute") == 0) parse_list(&made->unavailable_attribute, rest, line);
  else if (strcmp(name, "ignore-in-templates") == 0) parse_list(&made->ignore_in_templates, rest, line);
  else if (strcmp(name, "unlisted-mechanism") == 0) parse_list(&made->unlisted_mechanism, rest, line);
  else if (strcmp(name, "not-searchable") == 0) parse_list(&made->not_searchable, rest, line);
  else if (strcmp(name, "cut-attribute") == 0) parse_attribute_rule(&made->cut_attribute, true, rest, line);
  else if (strcmp(name, "pad-attribute") == 0) parse_attribute_rule(&made->pad_attribute, true, rest, line);
  else return false;
  return true;
}

static void parse_setting(struct control *made, const char *name, char **rest, int line) {
  const char *word;
  if (parse_quirk(made, name, rest, line)) word = NULL;
  else if (strcmp(name, "target") == 0) made->target = text_word(next_word(rest), line);
  else if (strcmp(name, "count-file") == 0) made->count_file = text_word(next_word(rest), line);
  else if (strcmp(name, "log") == 0)
    while ((word = next_word(rest)) != NULL) {
      enum function function;
      if (!function_named(word, &function) || function == F_AT_LOAD || function == F_AT_EXIT) refuse(line, word);
      for (int i = 0; i < FUNCTION_COUNT; i++) made->log[i] |= function == F_EVERY || (int)function == i;
    }
  else if (strcmp(name, "session-loss") == 0) made->session_loss = true;
  else if (strcmp(name, "logout") == 0) made->logout = true;
  else if (strcmp(name, "login-per-load") == 0) made->login_per_load = true;
  else if (strcmp(name, "login-per-session") == 0) made->login_per_session = true;
  else if (strcmp(name, "token-removed") == 0) made->token_removed = true;
  else if (strcmp(name, "device-error") == 0) made->device_error = true;
  else if (strcmp(name, "store-at-load") == 0) made->store_at_load = true;
  else if (strcmp(name, "ignore-ivs") == 0) made->ignore_ivs = true;
  else if (strcmp(name, "read-only-attributes") == 0) made->read_only_attributes = true;
  else if (strcmp(name, "session-limit") == 0) {
    made->session_limit = number_word(next_word(rest), line);
    word = next_word(rest);
    made->session_file = word == NULL ? NULL : text_word(word, line);
  }
  else if (strcmp(name, "role") == 0) {
    made->role_type = number_word(next_word(rest), line);
    made->role_pin = text_word(next_word(rest), line);
    made->user_pin = text_word(next_word(rest), line);
    made->role_rv = number_word(next_word(rest), line);
  } else if (strcmp(name, "id-limit") == 0) made->id_limit = number_word(next_word(rest), line);
  else if (strcmp(name, "label-limit") == 0) made->label_limit = number_word(next_word(rest), line);
  else if (strcmp(name, "exact-reads") == 0) {
    made->exact_reads = true;
    made->exact_reads_rv = number_word(next_word(rest), line);
  } else if (strcmp(name, "refuse-ro-sessions") == 0) {
    word = next_word(rest);
    made->refuse_ro_sessions = word == NULL ? CKR_FUNCTION_NOT_SUPPORTED : number_word(word, line);
  } else if (strcmp(name, "pin-counter") == 0) {
    made->pin_limit = number_word(next_word(rest), line);
    made->pin_file = text_word(next_word(rest), line);
    word = next_word(rest);
    made->pin_silent = word != NULL && strcmp(word, "silent") == 0;
    if (word != NULL && !made->pin_silent) refuse(line, word);
  } else if (strcmp(name, "pin-length") == 0) {
    made->pin_length_min = number_word(next_word(rest), line);
    made->pin_length_max = number_word(next_word(rest), line);
  } else if (strcmp(name, "pin-keypad") == 0) made->pin_keypad = true;
  else if (strcmp(name, "no-mechanism") == 0) parse_list(&made->no_mechanism, rest, line);
  else if (strcmp(name, "only-mechanisms") == 0) parse_list(&made->only_mechanisms, rest, line);
  else if (strcmp(name, "refuse-mechanism") == 0) parse_list(&made->refuse_mechanism, rest, line);
  else if (strcmp(name, "decrypt-only") == 0) parse_list(&made->decrypt_only, rest, line);
  else if (strcmp(name, "mechanism-error") == 0) {
    made->error_mechanism = number_word(next_word(rest), line);
    made->error_mechanism_rv = number_word(next_word(rest), line);
  } else if (strcmp(name, "no-attribute") == 0) parse_list(&made->no_attribute, rest, line);
  else if (strcmp(name, "ignore-in-searches") == 0) parse_list(&made->ignore_in_searches, rest, line);
  else if (strcmp(name, "refuse-attribute") == 0) {
    parse_attribute_rule(&made->refuse_attribute, false, rest, line);
    word = next_word(rest);
    if (word != NULL) made->refuse_attribute.items[made->refuse_attribute.length - 1].value = number_word(word, line);
  } else if (strcmp(name, "unreadable-attribute") == 0) parse_attribute_rule(&made->unreadable_attribute, false, rest, line);
  else if (strcmp(name, "report-attribute") == 0) parse_attribute_rule(&made->report_attribute, true, rest, line);
  else if (strcmp(name, "gcm-mechanism") == 0) made->gcm_mechanism = number_word(next_word(rest), line);
  else if (strcmp(name, "foreign-objects") == 0) {
    made->foreign_objects = number_word(next_word(rest), line);
    word = next_word(rest);
    if (word != NULL) made->foreign_broken = number_word(word, line);
  } else if (strcmp(name, "broken-slot") == 0) {
    word = next_word(rest);
    if (word == NULL || !function_named(word, &made->broken_slot)) refuse(line, word == NULL ? "(a function is missing)" : word);
    made->broken_slot_rv = number_word(next_word(rest), line);
  } else if (strcmp(name, "gcm-iv") == 0) parse_gcm(made, next_word(rest), line);
  else if (strcmp(name, "exclusive") == 0) {
    made->exclusive_file = text_word(next_word(rest), line);
    made->exclusive_rv = number_word(next_word(rest), line);
  } else if (strcmp(name, "fresh-ivs") == 0) made->fresh_ivs = number_word(next_word(rest), line);
  else refuse(line, name);
  if ((word = next_word(rest)) != NULL) refuse(line, word);
}

static struct control *parse(const char *path) {
  struct control *made = calloc(1, sizeof *made);
  if (made == NULL) abort();
  made->references = 1;
  made->session_limit = made->pin_limit = made->id_limit = made->label_limit = made->session_state = NO_LIMIT;
  made->gcm_mechanism = CKM_AES_GCM;
  made->broken_slot = FUNCTION_COUNT;
  FILE *file = path == NULL ? NULL : fopen(path, "re");
  if (file == NULL) return made;
  char *text = NULL;
  size_t size = 0;
  for (int line = 1; getline(&text, &size, file) >= 0; line++) {
    char *rest = NULL;
    text[strcspn(text, "#\r\n")] = '\0';
    const char *first = strtok_r(text, " \t", &rest);
    enum function function;
    if (first == NULL) continue;
    if (function_named(first, &function)) parse_rule(made, function, &rest, line);
    else parse_setting(made, first, &rest, line);
  }
  free(text);
  fclose(file);
  return made;
}

/* ---- the control in force ---- */

static void drop(struct control *control_) {
  if (--control_->references > 0) return;
  for (size_t i = 0; i < control_->rule_count; i++) {
    free(control_->rules[i].once);
    free(control_->rules[i].file);
  }
  free(control_->count_file);
  free(control_->target);
  free(control_->pin_file);
  free(control_->session_file);
  free(control_->role_pin);
  free(control_->user_pin);
  free(control_);
}

struct control *control_acquire(void) {
  pthread_mutex_lock(&lock);
  const char *path = getenv("FAULT_MODULE_CONTROL");
  if (path == NULL) path = beside_module(".control");
  struct stat found;
  if (path == NULL || stat(path, &found) != 0) memset(&found, 0, sizeof found);
  if (current == NULL || found.st_ino != current_stat.st_ino || found.st_size != current_stat.st_size ||
      found.st_mtim.tv_sec != current_stat.st_mtim.tv_sec || found.st_mtim.tv_nsec != current_stat.st_mtim.tv_nsec) {
    if (current != NULL) drop(current);
    current = parse(path);
    current_stat = found;
  }
  struct control *taken = current;
  taken->references++;
  pthread_mutex_unlock(&lock);
  return taken;
}

void control_release(struct control *taken) {
  pthread_mutex_lock(&lock);
  drop(taken);
  pthread_mutex_unlock(&lock);
}

bool list_has(const struct list *list, CK_ULONG item) {
  for (size_t i = 0; i < list->length; i++)
    if (list->items[i] == item) return true;
  return false;
}

const struct attribute_rule *attribute_rule(const struct attribute_rules *rules, CK_ULONG type) {
  for (size_t i = 0; i < rules->length; i++)
    if (rules->items[i].type == type) return &rules->items[i];
  return NULL;
}
