/* The loader of objects on bytes: whatever they are, it stays within the object and its room, and
 * what it makes can be given to the verifier. */
#include "fuzz_code.h"
#include "code/object.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const u8 *data, size_t size) {
    struct code_object object;
    struct host_program h;
    enum { ROOM = 64 };
    u64 *room = malloc(ROOM * sizeof(*room)), *copy = malloc(size + 8);
    memcpy(copy, data, size);
    if (code_object_load(copy, size, NULL, room, ROOM, &object) == 0) {
        CHECK(object.count <= ROOM && object.parts <= CODE_OBJECT_PARTS);
        host_verify(&h, host_profile("handler"), (const struct code_insn *)room, object.count);
        host_free(&h);
    } else {
        CHECK(object.refusal);
    }
    free(room);
    free(copy);
    return 0;
}
