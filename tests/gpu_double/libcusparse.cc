// cuSPARSE: a handle that each device context makes and nothing here uses.
#include "double.h"

extern "C" {
int cusparseCreate(void **handle) { CALL(); *handle = calloc(1, 64); return 0; }
int cusparseDestroy(void *handle) { CALL(); free(handle); return 0; }
int cusparseSetStream(void *, void *) { CALL(); return 0; }
}
