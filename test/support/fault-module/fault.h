/*
 * What the files of the fault module share: the parsed control file, the sessions, and the call in progress.
 * README.md documents each setting.
 */
#ifndef FAULT_H
#define FAULT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "cryptoki.h"

/* ---- functions by number ---- */

#define FUNCTION_NUMBER(name, scope, kind, parameters, arguments) F_##name,
enum function { CRYPTOKI_FUNCTIONS(FUNCTION_NUMBER) FUNCTION_COUNT, F_AT_LOAD = FUNCTION_COUNT, F_AT_EXIT, F_EVERY };
extern const char *const function_names[FUNCTION_COUNT];

/* ---- control.c: the control file ---- */

enum action { ACTION_SLEEP, ACTION_HANG, ACTION_RV, ACTION_ABORT, ACTION_SEGV, ACTION_EXIT, ACTION_LEAK, ACTION_ALTER, ACTION_FORK, ACTION_UNTIL };

struct rule {
  enum function function;
  enum action action;
  CK_ULONG argument;
  bool after, failed;
  double probability;
  unsigned long skip, count;
  char *once, *file;
  atomic_ulong seen;
};

enum gcm_place { GCM_CALLER, GCM_WRITTEN, GCM_WRITTEN_LATE, GCM_APPENDED, GCM_PREPENDED };

#define LIST_LIMIT 256
struct list {
  CK_ULONG items[LIST_LIMIT];
  size_t length;
};

/* What the token does about one attribute type: an error, or a value of one byte. */
#define ATTRIBUTE_RULE_LIMIT 64
#define ANY_VALUE 256
struct attribute_rule {
  CK_ULONG type;
  CK_RV rv;
  CK_ULONG value; /* of the first byte; ANY_VALUE when not set */
};
struct attribute_rules {
  struct attribute_rule items[ATTRIBUTE_RULE_LIMIT];
  size_t length;
};

#define RULE_LIMIT 128
struct control {
  int references;
  struct rule rules[RULE_LIMIT];
  size_t rule_count;
  bool log[FUNCTION_COUNT];
  char *count_file, *target, *pin_file, *session_file, *exclusive_file, *role_pin, *user_pin;
  CK_ULONG role_type;
  CK_RV role_rv;
  bool session_loss, logout, login_per_load, login_per_session, token_removed, device_error, store_at_load, read_only_attributes, exact_reads, pin_silent, pin_keypad, gcm_own, ignore_ivs;
  atomic_bool session_loss_done, logout_done, token_removed_done;
  CK_RV refuse_ro_sessions, fresh_ivs, exclusive_rv; /* CKR_OK when not set */
  CK_RV exact_reads_rv; /* CKR_OK: the length is not reported */
  unsigned long pin_length_min, pin_length_max; /* a maximum of 0 when not set */
  unsigned long session_limit, pin_limit, id_limit, label_limit; /* NO_LIMIT when not set */
  struct list no_mechanism, only_mechanisms, refuse_mechanism, decrypt_only, no_attribute, ignore_in_searches;
  CK_ULONG error_mechanism;
  CK_RV error_mechanism_rv; /* CKR_OK when not set */
  struct attribute_rules refuse_attribute, unreadable_attribute, report_attribute;
  enum gcm_place gcm_place;
  CK_ULONG gcm_iv_length, gcm_mechanism;
  CK_ULONG foreign_objects;
  CK_RV foreign_broken; /* the result of reading the first of them */
  /* quirks.c */
  bool lacks[FUNCTION_COUNT];
  CK_RV no_locking, no_initialize_arguments; /* CKR_OK when not set */
  bool one_thread, handles_per_session, found_twice, nul_padding;
  CK_ULONG found_limit, late_objects_ms; /* 0 when not set */
  CK_ULONG session_state; /* NO_LIMIT when not set */
  CK_ULONG flags_cleared, flags_set, wide_booleans, extra_slots;
  struct list unavailable_attribute, ignore_in_templates, unlisted_mechanism, not_searchable;
  struct attribute_rules cut_attribute, pad_attribute; /* value: the length */
  enum function broken_slot; /* FUNCTION_COUNT when not set */
  CK_RV broken_slot_rv;
};
#define NO_LIMIT (~0UL)

/* Returns the current control file; release each one once. */
struct control *control_acquire(void);
void control_release(struct control *control);
bool list_has(const struct list *list, CK_ULONG item);
/* Returns the rule for an attribute type; NULL if there is none. */
const struct attribute_rule *attribute_rule(const struct attribute_rules *rules, CK_ULONG type);

/* Returns the path of this module's own file with a suffix, for the files beside it. */
const char *beside_module(const char *suffix);

/* ---- store.c: a store that the library reads once ---- */

/* Call before the target is initialised. */
void store_load(void);
/* Call after a call that made or destroyed objects. */
void store_write_back(void);

/* ---- rules.c ---- */

/* Carries out the rules of a function. Returns true if a rule has decided *rv. */
bool rules_apply(struct control *control, enum function function, bool after, CK_RV *rv);

/* Changes a bit in the output of a successful call if a rule says so. */
void rules_alter(enum function function, CK_BYTE *out, CK_ULONG length);

/* ---- trace.c: counts and log ---- */

void trace_count(const struct control *control, enum function function);
void trace_log(enum function function, CK_RV rv, double started_ms);
double now_ms(void);

/* ---- sessions.c ---- */

struct gcm_encrypt {
  enum gcm_place place;
  CK_BYTE iv[16];
  CK_BYTE *caller_iv;
  CK_GCM_PARAMS parameters;
};

struct gcm_decrypt {
  bool pending;
  CK_OBJECT key;
  CK_GCM_PARAMS parameters; /* aad is our own copy */
  CK_ULONG iv_length;
  bool prepended;
};

#define LAST_FOUND 64
struct session {
  CK_SESSION handle;
  CK_SLOT_ID slot;
  bool lost, logged_in;
  struct gcm_encrypt encrypt;
  struct gcm_decrypt decrypt;
  CK_ULONG foreign_left; /* of the search in progress */
  bool found_again; /* found-twice: the last batch has been returned again */
  size_t last_found;
  CK_OBJECT last[LAST_FOUND];
};

void sessions_add(CK_SESSION handle, CK_SLOT_ID slot);
void sessions_remove(CK_SESSION handle);
void sessions_remove_slot(CK_SLOT_ID slot);
void sessions_clear(void);
size_t sessions_open(void);
/* Returns CKR_SESSION_COUNT if the limit of the process, or of the token over all processes, is reached. */
CK_RV sessions_reserve(void);
/* Records the number of open sessions for the other processes. */
void sessions_publish(void);
/* Returns NULL for a session that was not opened through this module. */
struct session *sessions_find(CK_SESSION handle);
void sessions_lose(void);
void sessions_logout(void);

/* ---- login.c: a login for each load, or for each session ---- */

/* Returns whether the load of this thread, or the session, is logged out, so that it shows no private object. */
bool login_is_missing(CK_SESSION session);
void login_forget(void);
/* Each turns the target's result into the result for this load. */
CK_RV login_initialised(CK_RV rv);
/*
 * Returns the result of calls that make, change or destroy objects if the logged-in role may not make them: else
 * CKR_OK.
 */
CK_RV role_check(void);
CK_RV login_as(CK_SESSION session, CK_ULONG user, CK_BYTE *pin, CK_ULONG length);
CK_RV login_of_load(CK_RV rv, const CK_BYTE *pin, CK_ULONG length);

/* ---- module.c: the call in progress ---- */

extern CK_FUNCTION_LIST *target;
/* The control file in force for the call in this thread. */
extern _Thread_local struct control *control;

/* State of the library: ALIVE; DEAD since a device-error; or EMPTY, if initialised during one. */
enum life { ALIVE, DEAD, EMPTY };
extern _Atomic enum life life;

bool mechanism_hidden(CK_ULONG type);

/* ---- foreign.c: objects of other applications ---- */

bool foreign_is(CK_OBJECT object);
CK_RV foreign_read(CK_OBJECT object, CK_ATTRIBUTE *attributes, CK_ULONG count);

/* ---- quirks.c ---- */

/* Stands in front of the target for handles that are valid in one session only. */
CK_FUNCTION_LIST *quirks_before(CK_FUNCTION_LIST *target);
/* Returns the arguments for the target's C_Initialize, or the token's refusal in *rv. */
void *quirks_initialize(void *arguments, CK_RV *rv);
/* Counts the threads that are in the module, and ends the process if one-thread is set and another thread is. */
void quirks_enter(void);
void quirks_leave(void);
/* Changes attributes that were read into values that a token returns in another form. */
void quirks_read(CK_ATTRIBUTE *attributes, CK_ULONG count, const CK_ULONG *room, CK_RV *rv);
/* Drops and cuts attributes of a template; returns their new number. */
CK_ULONG quirks_template(CK_ATTRIBUTE *attributes, CK_ULONG count);
void quirks_token_info(CK_TOKEN_INFO *info);
/* Notes that an object was made now. */
void quirks_made(CK_OBJECT object);
/* Removes objects that cannot be found yet; returns how many are left. */
CK_ULONG quirks_findable(CK_OBJECT *objects, CK_ULONG count);

void random_bytes(CK_BYTE *out, size_t length);

#define EMULATION_FORWARDED(name, parameters)
#define EMULATION_OWN(name, parameters)
#define EMULATION_EMULATED(name, parameters) CK_RV emulated_##name parameters;
#define EMULATION(name, scope, kind, parameters, arguments) EMULATION_##kind(name, parameters)
CRYPTOKI_FUNCTIONS(EMULATION)

#endif
