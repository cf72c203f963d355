// The CUDA driver: what is asked of it before anything runs.
#include "double.h"

extern "C" {
// The runtime's twins.
int cudaDeviceGetAttribute(int *, int, int);
int cudaGetDeviceCount(int *);

int cuInit(unsigned) {
  CALL();
  return 0;
}
int cuDriverGetVersion(int *version) {
  CALL();
  *version = 11060;
  return 0;
}
int cuDeviceGetCount(int *count) {
  CALL();
  return cudaGetDeviceCount(count);
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  CALL();
  return cudaDeviceGetAttribute(value, attribute, device);
}
int cuDeviceGetName(char *name, int size, int) {
  CALL();
  snprintf(name, size, "double of a GPU");
  return 0;
}
int cuGetErrorName(int, const char **name) {
  CALL();
  *name = "CUresult of the double";
  return 0;
}
}
