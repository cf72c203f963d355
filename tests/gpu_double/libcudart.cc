// The CUDA runtime: device memory is host memory, streams run at once. The machine has GPU_DOUBLE_DEVICES devices, one by
// default, of which CUDA_VISIBLE_DEVICES (numbers alone) shows a process some under new numbers; the trace has the old.
#include "double.h"

// The first fields of CUDA 11's cudaDeviceProp, and one further back (driver_types.h): the rest stays the caller's.
struct cudaDeviceProp {
  char name[256], uuid_and_luid[32];
  size_t totalGlobalMem, sharedMemPerBlock;
  int regsPerBlock, warpSize;
  size_t memPitch;
  int maxThreadsPerBlock, maxThreadsDim[3], maxGridSize[3], clockRate;
  size_t totalConstMem;
  int major, minor;
  size_t textureAlignment, texturePitchAlignment;
  int deviceOverlap, multiProcessorCount;
  char between[232];
  int maxThreadsPerMultiProcessor;
};
static_assert(offsetof(cudaDeviceProp, totalGlobalMem) == 288 && offsetof(cudaDeviceProp, major) == 360 &&
              offsetof(cudaDeviceProp, multiProcessorCount) == 388 &&
              offsetof(cudaDeviceProp, maxThreadsPerMultiProcessor) == 624, "driver_types.h");
enum { kSuccess = 0, kOutOfMemory = 2, kNoDevice = 100, kInvalidDevice = 101 };
// Device attributes, with the values of a V100, the seed's card.
static int Attribute(int attribute) {
  switch (attribute) {
    case 1: return 1024;       // threads per block
    case 8: return 48 << 10;   // bytes of shared memory per block
    case 10: return 32;        // threads of a warp
    case 16: return 80;        // multiprocessors
    case 39: return 2048;      // threads per multiprocessor
    case 75: return 7;         // compute capability, major
    case 76: return 0;         // and minor
  }
  gpu_double_refuse(("device attribute " + std::to_string(attribute)).c_str());
}

static const size_t kMemory = 8ull << 30;  // bytes that each device claims to have
static thread_local int current = 0;

static std::vector<int> FindDevices() {
  const char *count = getenv("GPU_DOUBLE_DEVICES"), *visible = getenv("CUDA_VISIBLE_DEVICES");
  const int all = count ? atoi(count) : 1;
  std::vector<int> devices;
  for (int i = 0; !visible && i < all; i++) devices.push_back(i);
  for (const char *at = visible; at && *at; at = strchr(at, ',') ? strchr(at, ',') + 1 : nullptr) {
    if (atoi(at) < 0 || atoi(at) >= all) break;  // hides those behind it, as CUDA does
    devices.push_back(atoi(at));
  }
  return devices;
}
static const std::vector<int> &Devices() {
  static const auto &devices = *new std::vector<int>(FindDevices());
  return devices;
}

static int Handle(void **handle) {
  *handle = calloc(1, 64);
  return kSuccess;
}

extern "C" {
int cudaRuntimeGetVersion(int *version) { CALL(); *version = 11060; return kSuccess; }
int cudaGetDeviceCount(int *count) {
  CALL();
  *count = Devices().size();
  return *count ? kSuccess : kNoDevice;
}
int cudaSetDevice(int device) {
  if (device < 0 || device >= (int)Devices().size()) return kInvalidDevice;
  CountNamed("cudaSetDevice(" + std::to_string(Devices()[device]) + ")");
  current = device;
  return kSuccess;
}
// The machine's number of the current device.
int gpu_double_device() { return Devices()[current]; }
int cudaGetDevice(int *device) { CALL(); *device = current; return kSuccess; }
int cudaDeviceGetAttribute(int *value, int attribute, int) {
  CALL();
  *value = Attribute(attribute);
  return kSuccess;
}
int cudaGetDeviceProperties(cudaDeviceProp *p, int device) {
  CALL();
  snprintf(p->name, sizeof p->name, "double of a GPU %d", device);
  p->totalGlobalMem = kMemory;
  p->major = 7;
  p->minor = 0;
  p->warpSize = 32;
  p->multiProcessorCount = 80;
  p->maxThreadsPerBlock = p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
  p->maxThreadsDim[2] = 64;
  p->maxGridSize[0] = 2147483647;
  p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  p->maxThreadsPerMultiProcessor = 2048;
  p->sharedMemPerBlock = 48 << 10;
  p->regsPerBlock = 65536;
  return kSuccess;
}
int cudaMemGetInfo(size_t *free, size_t *total) {
  CALL();
  *total = kMemory;
  *free = kMemory / 8 * 7;
  return kSuccess;
}
int cudaMalloc(void **p, size_t n) {
  CALL();
  return posix_memalign(p, 512, n ? n : 1) ? kOutOfMemory : kSuccess;
}
int cudaFree(void *p) { CALL(); free(p); return kSuccess; }
int cudaHostAlloc(void **p, size_t n, unsigned) { CALL(); *p = calloc(1, n); return kSuccess; }
int cudaFreeHost(void *p) { CALL(); free(p); return kSuccess; }

static int Copy(void *to, const void *from, size_t n, int kind) {
  static const char *names[] = {"host to host", "host to device", "device to host", "device to device", "default"};
  CountNamed(std::string("copy, ") + names[kind]);
  memmove(to, from, n);
  return kSuccess;
}
int cudaMemcpy(void *to, const void *from, size_t n, int kind) {
  return Copy(to, from, n, kind);
}
int cudaMemcpyAsync(void *to, const void *from, size_t n, int kind, void *) {
  return Copy(to, from, n, kind);
}
int cudaMemset(void *p, int value, size_t n) { LAUNCH(); memset(p, value, n); return kSuccess; }
int cudaMemsetAsync(void *p, int value, size_t n, void *) {
  LAUNCH();
  memset(p, value, n);
  return kSuccess;
}
int cudaDeviceSynchronize() { CALL(); return kSuccess; }
int cudaGetLastError() { CALL(); return kSuccess; }
int cudaStreamCreate(void **stream) { CALL(); return Handle(stream); }
int cudaStreamCreateWithFlags(void **stream, unsigned) { CALL(); return Handle(stream); }
int cudaStreamDestroy(void *stream) { CALL(); free(stream); return kSuccess; }
int cudaStreamSynchronize(void *) { CALL(); return kSuccess; }
int cudaStreamWaitEvent(void *, void *, unsigned) { CALL(); return kSuccess; }
int cudaEventCreate(void **event) { CALL(); return Handle(event); }
int cudaEventCreateWithFlags(void **event, unsigned) { CALL(); return Handle(event); }
int cudaEventDestroy(void *event) { CALL(); free(event); return kSuccess; }
int cudaEventRecord(void *, void *) { CALL(); return kSuccess; }
int cudaEventQuery(void *) { CALL(); return kSuccess; }
int cudaEventSynchronize(void *) { CALL(); return kSuccess; }
// MindSpore 2's plugin brings kernels of its own and makes them known when it is loaded; none can be launched here.
void **__cudaRegisterFatBinary(void *) { CALL(); static void *handle; return &handle; }
void __cudaRegisterFatBinaryEnd(void **) { CALL(); }
void __cudaUnregisterFatBinary(void **) { CALL(); }
void __cudaRegisterFunction(void **, const char *, char *, const char *, int, void *, void *, void *, void *, int *) {
  CALL();
}
void __cudaRegisterVar(void **, char *, char *, const char *, int, size_t, int, int) { CALL(); }
const char *cudaGetErrorName(int error) { return error ? "cudaError of the double" : "cudaSuccess"; }
const char *cudaGetErrorString(int error) { return error ? "an error of the double" : "no error"; }
}
