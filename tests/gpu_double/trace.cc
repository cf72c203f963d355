// The trace: GPU_DOUBLE_TRACE names a file, which gets a line "<calls> <call|launch> <name>" for each name at the end.
#include "double.h"

#include <cxxabi.h>
#include <map>
#include <mutex>
#include <unistd.h>

static Counter *first = nullptr;
static std::mutex mutex;

static void WriteTrace() {
  const char *path = getenv("GPU_DOUBLE_TRACE");
  FILE *file = path ? fopen((std::string(path) + "." + std::to_string(getpid())).c_str(), "w") : nullptr;
  if (!file) return;
  for (Counter *c = first; c; c = c->next) fprintf(file, "%lu %s\n", c->calls, c->name.c_str());
  fclose(file);
}

Counter::Counter(const std::string &name) : name(name) {
  std::lock_guard<std::mutex> lock(mutex);
  if (!first) atexit(WriteTrace);
  next = first;
  first = this;
}

void CountNamed(const std::string &name) {
  static std::mutex own;
  static auto &counters = *new std::map<std::string, Counter *>;
  std::lock_guard<std::mutex> lock(own);
  Counter *&counter = counters[name];
  if (!counter) counter = new Counter("call " + name);
  counter->Add();
}

void gpu_double_refuse(const char *what) {
  int status = 0;
  char *plain = abi::__cxa_demangle(what, nullptr, nullptr, &status);
  fprintf(stderr, "gpu double: %s is not computed; write it in tests/gpu_double\n", plain ? plain : what);
  fflush(stderr);
  abort();
}
