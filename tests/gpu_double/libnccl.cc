// NCCL between the ranks of one machine: they exchange through a shared file. As the real one, it refuses two ranks on
// one device. Types and operations as in NCCL's reference (float32 is 7, sum is 0).
#include "double.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <ctime>
#include <unistd.h>

static const size_t kSlot = 4u << 20;  // bytes that a rank puts in at a time
static const int kRanks = 16;
struct Shared {
  volatile int arrived, generation, ranks_on[kRanks];
};
struct Communicator {
  int ranks, rank;
  Shared *shared;
  char *slots;
  char *Slot(int of) const { return slots + of * kSlot; }
};
struct UniqueId {
  char path[128];
};
enum { kSuccess = 0, kSystemError = 2, kInvalidUsage = 5, kFloat = 7, kSum = 0 };

static size_t Bytes(int type) {
  static const size_t bytes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2};
  return bytes[type];
}
static void Wait(Communicator *c) {
  int generation = c->shared->generation;
  if (__sync_add_and_fetch(&c->shared->arrived, 1) == c->ranks) {
    c->shared->arrived = 0;
    __sync_synchronize();
    c->shared->generation = generation + 1;
  }
  while (c->shared->generation == generation) {
    timespec pause = {0, 200000};
    nanosleep(&pause, nullptr);
  }
}

extern "C" {
int gpu_double_device();

int ncclGetUniqueId(UniqueId *id) {
  CALL();
  memset(id, 0, sizeof *id);
  snprintf(id->path, sizeof id->path, "/dev/shm/gpu_double_nccl.%d", (int)getpid());
  int file = open(id->path, O_CREAT | O_RDWR, 0600);
  bool made = file >= 0 && ftruncate(file, 4096 + kRanks * kSlot) == 0;
  close(file);
  return made ? kSuccess : kSystemError;
}
int ncclCommInitRank(Communicator **made, int ranks, UniqueId id, int rank) {
  const int device = gpu_double_device();
  CountNamed("ncclCommInitRank(rank " + std::to_string(rank) + " of " + std::to_string(ranks) + " on device " +
             std::to_string(device) + ")");
  int file = open(id.path, O_RDWR);
  if (file < 0 || ranks > kRanks || device >= kRanks) return kSystemError;
  char *memory = (char *)mmap(nullptr, 4096 + kRanks * kSlot, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  Communicator *c = new Communicator{ranks, rank, (Shared *)memory, memory + 4096};
  if (__sync_add_and_fetch(&c->shared->ranks_on[device], 1) > 1) {
    fprintf(stderr, "gpu double: NCCL: rank %d and another are both on CUDA device %d\n", rank, device);
    return kInvalidUsage;
  }
  Wait(c);
  if (rank == 0) unlink(id.path);
  *made = c;
  return kSuccess;
}
int ncclCommDestroy(Communicator *c) { CALL(); delete c; return kSuccess; }
int ncclCommAbort(Communicator *c) { CALL(); delete c; return kSuccess; }
int ncclGroupStart() { CALL(); return kSuccess; }
int ncclGroupEnd() { CALL(); return kSuccess; }
int ncclAllReduce(const void *from, void *to, size_t count, int type, int operation, Communicator *c, void *) {
  LAUNCH();
  if (type != kFloat || operation != kSum) gpu_double_refuse("ncclAllReduce of other than float32 sums");
  for (size_t at = 0; at < count * 4; at += kSlot) {
    size_t n = count * 4 - at < kSlot ? count * 4 - at : kSlot;
    memcpy(c->Slot(c->rank), (const char *)from + at, n);
    Wait(c);
    for (size_t i = 0; i < n / 4; i++) {
      double sum = 0;
      for (int r = 0; r < c->ranks; r++) sum += ((float *)c->Slot(r))[i];
      ((float *)((char *)to + at))[i] = sum;
    }
    Wait(c);
  }
  return kSuccess;
}
int ncclBroadcast(const void *from, void *to, size_t count, int type, int root, Communicator *c, void *) {
  LAUNCH();
  for (size_t at = 0, all = count * Bytes(type); at < all; at += kSlot) {
    size_t n = all - at < kSlot ? all - at : kSlot;
    if (c->rank == root) memcpy(c->Slot(0), (const char *)from + at, n);
    Wait(c);
    memcpy((char *)to + at, c->Slot(0), n);
    Wait(c);
  }
  return kSuccess;
}
int ncclAllGather(const void *from, void *to, size_t count, int type, Communicator *c, void *) {
  LAUNCH();
  size_t n = count * Bytes(type);
  if (n > kSlot) gpu_double_refuse("ncclAllGather of more than a slot");
  memcpy(c->Slot(c->rank), from, n);
  Wait(c);
  for (int r = 0; r < c->ranks; r++) memcpy((char *)to + r * n, c->Slot(r), n);
  Wait(c);
  return kSuccess;
}
const char *ncclGetErrorString(int) { return "an error of the double's NCCL"; }
}
