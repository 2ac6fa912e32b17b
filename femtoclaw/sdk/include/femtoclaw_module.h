/*
 * FC-ABI-1.0.0: the contract between FemtoClaw and a module.
 *
 * A module is a shared library, or a WebAssembly module with the same layouts for 32-bit pointers. It exports the four
 * functions below by these very names. Each execution happens in a process of its own:
 *
 *     version, init, execute, shutdown
 *
 * once each and in this order. A function that must not be waited for any longer is ended with its process.
 *
 * Who owns what
 *   The runtime owns the context, the function table and the request, and everything they point to. They are valid
 *   from the call that gets them until that call returns (context and table: until shutdown returns). A module reads
 *   them only: the context and the table are in memory that cannot be written, a request that was changed makes the
 *   execution fail. A module never frees memory of the runtime.
 *   The module owns its own state, and the memory at `result_json`: it stays valid until the next call of any of the
 *   module's functions; the runtime copies it before that and never frees it.
 *   The runtime owns the response structure itself; the module fills its two fields.
 *
 * All strings are UTF-8 and end in a zero byte. All JSON texts are objects.
 */
#ifndef FEMTOCLAW_MODULE_H
#define FEMTOCLAW_MODULE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FEMTOCLAW_ABI "FC-ABI-1.0.0"

/* Major in the upper 16 bits, minor and patch in 8 bits each. */
#define FEMTOCLAW_ABI_VERSION ((uint32_t)((1u << 16) | (0u << 8) | 0u))

/* Values of status_code. With any but the first, result_json is {"message": "..."}, without secrets in the text. */
#define FEMTOCLAW_SUCCESS 0
#define FEMTOCLAW_EXECUTION_ERROR 1
#define FEMTOCLAW_ARGUMENT_ERROR 2
#define FEMTOCLAW_AUTHORIZATION_ERROR 3
#define FEMTOCLAW_ENVIRONMENT_ERROR 4

/* What a module may ask of the runtime. A later minor version may append functions; `size` tells which are there. */
typedef struct femtoclaw_functions {
    uint32_t size;                            /* of this structure, in bytes */
    const char *(*workspace)(void);           /* absolute path of the folder that the claw works in */
    const char *(*settings_json)(void);       /* what the operator has configured for this claw */
    const char *(*secret)(const char *name);  /* its value, or NULL when it was not granted to this claw */
} femtoclaw_functions;

typedef struct femtoclaw_runtime_context {
    uint32_t abi_version;                     /* of the runtime: FEMTOCLAW_ABI_VERSION of its header */
    uint64_t runtime_id;                      /* stands for the node; the same in all of its executions */
    const femtoclaw_functions *functions;     /* NULL in WebAssembly */
} femtoclaw_runtime_context;

typedef struct femtoclaw_execution_request {
    uint64_t execution_id;                    /* handle of this execution; never the same for two of one node */
    const char *capability;                   /* the name under which the claw was called */
    const char *arguments_json;               /* checked against the manifest's schema */
} femtoclaw_execution_request;

typedef struct femtoclaw_execution_response {
    int32_t status_code;                      /* -1 until the module has filled it */
    char *result_json;                        /* NULL until the module has filled it */
} femtoclaw_execution_response;

#if defined(__GNUC__)
#define FEMTOCLAW_EXPORT __attribute__((visibility("default")))
#else
#define FEMTOCLAW_EXPORT
#endif

/* The ABI version that the module was built for: FEMTOCLAW_ABI. Called first, and again never. */
FEMTOCLAW_EXPORT const char *femtoclaw_module_version(void);

/* Makes the module ready. 0 for success; anything else keeps it from being used. */
FEMTOCLAW_EXPORT int32_t femtoclaw_module_init(const femtoclaw_runtime_context *context);

/* Executes one request. 0 when the response was filled, with a result or with an error. */
FEMTOCLAW_EXPORT int32_t femtoclaw_module_execute(const femtoclaw_execution_request *request,
                                                  femtoclaw_execution_response *response);

/* Releases everything the module holds. */
FEMTOCLAW_EXPORT void femtoclaw_module_shutdown(void);

#ifdef __cplusplus
}
#endif

#endif
