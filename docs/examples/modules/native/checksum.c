/* The claw `text.checksum` as a shared library: the FNV-1a hash of its arguments.
 *
 *     cc -shared -fPIC -O2 -I "$(python -c 'import femtoclaw.sdk as s; print(s.__path__[0])')/include" \
 *         -o checksum.so checksum.c
 */
#include "femtoclaw_module.h"

#include <stdio.h>

static char answer[64];

const char *femtoclaw_module_version(void) { return FEMTOCLAW_ABI; }

int32_t femtoclaw_module_init(const femtoclaw_runtime_context *context) {
    return context->abi_version >> 16 == FEMTOCLAW_ABI_VERSION >> 16 ? 0 : 1;
}

int32_t femtoclaw_module_execute(const femtoclaw_execution_request *request, femtoclaw_execution_response *response) {
    uint32_t hash = 2166136261u;
    for (const char *at = request->arguments_json; *at; at++)
        hash = (hash ^ (unsigned char)*at) * 16777619u;
    snprintf(answer, sizeof answer, "{\"checksum\":\"%08x\"}", hash);
    response->status_code = FEMTOCLAW_SUCCESS;
    response->result_json = answer;
    return 0;
}

void femtoclaw_module_shutdown(void) {}
