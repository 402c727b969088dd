// A PKCS#11 library that stands for another one whose functions are returned by a function with another name, such as
// FC_GetFunctionList of NSS in FIPS mode: pkcs11js asks every library for C_GetFunctionList. The environment names the
// library and the function, since C code does not see what a worker thread assigns to process.env.
#include <dlfcn.h>
#include <stdlib.h>

enum { CKR_GENERAL_ERROR = 0x05, CKR_FUNCTION_NOT_SUPPORTED = 0x54 };

typedef unsigned long (*get_function_list)(void **list);

// Returns what the named function returns; CKR_GENERAL_ERROR if the library cannot be loaded, and
// CKR_FUNCTION_NOT_SUPPORTED if it has no such function.
unsigned long C_GetFunctionList(void **list) {
  const char *path = getenv("KMS_PKCS11_MODULE");
  const char *entry = getenv("KMS_PKCS11_MODULE_ENTRY");
  void *library = path == NULL || entry == NULL ? NULL : dlopen(path, RTLD_LAZY | RTLD_LOCAL);
  if (library == NULL) return CKR_GENERAL_ERROR;
  get_function_list function = (get_function_list)dlsym(library, entry);
  return function == NULL ? CKR_FUNCTION_NOT_SUPPORTED : function(list);
}
