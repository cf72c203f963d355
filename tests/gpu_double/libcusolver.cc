// cuSOLVER: a handle that each device context makes and nothing here uses.
#include "double.h"

extern "C" {
int cusolverDnCreate(void **handle) { CALL(); *handle = calloc(1, 64); return 0; }
int cusolverDnDestroy(void *handle) { CALL(); free(handle); return 0; }
int cusolverDnSetStream(void *, void *) { CALL(); return 0; }
}
