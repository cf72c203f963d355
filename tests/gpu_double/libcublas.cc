// cuBLAS: handles and the two matrix products that MindSpore calls. Types as in NVIDIA's cuBLAS 11 reference.
#include "double.h"

enum { kFloat = 0, kHalf = 2 };  // cudaDataType

static float Get(const void *p, size_t i, int type) {
  return type == kHalf ? (float)((const __half *)p)[i] : ((const float *)p)[i];
}
static void Multiply(bool transpose_a, bool transpose_b, int m, int n, int k, const void *alpha, const void *a, int ta,
                     int lda, const void *b, int tb, int ldb, const void *beta, void *c, int tc, int ldc) {
  for (int type : {ta, tb, tc}) {
    if (type != kFloat && type != kHalf) gpu_double_refuse(("matrices of type " + std::to_string(type)).c_str());
  }
  // All callers compute in float32, so alpha and beta are float32, too. Matrices are stored by columns.
  const float scale = *(const float *)alpha, keep = *(const float *)beta;
  for (int j = 0; j < n; j++) {
    for (int i = 0; i < m; i++) {
      double sum = 0;
      for (int p = 0; p < k; p++) {
        size_t at_a = transpose_a ? p + (size_t)i * lda : i + (size_t)p * lda;
        size_t at_b = transpose_b ? j + (size_t)p * ldb : p + (size_t)j * ldb;
        sum += (double)Get(a, at_a, ta) * Get(b, at_b, tb);
      }
      size_t at = i + (size_t)j * ldc;
      float value = scale * sum + (keep ? keep * Get(c, at, tc) : 0);
      if (tc == kHalf) ((__half *)c)[at] = value;
      else ((float *)c)[at] = value;
    }
  }
}
static size_t Bytes(int type) { return type == kHalf ? 2 : 4; }

extern "C" {
int cublasCreate_v2(void **handle) { CALL(); *handle = calloc(1, 64); return 0; }
int cublasDestroy_v2(void *handle) { CALL(); free(handle); return 0; }
int cublasSetStream_v2(void *, void *) { CALL(); return 0; }
int cublasSetMathMode(void *, int) { CALL(); return 0; }
int cublasGetMathMode(void *, int *mode) { CALL(); *mode = 0; return 0; }
int cublasGemmEx(void *, int transpose_a, int transpose_b, int m, int n, int k, const void *alpha, const void *a, int ta,
                 int lda, const void *b, int tb, int ldb, const void *beta, void *c, int tc, int ldc, int, int) {
  LAUNCH();
  Multiply(transpose_a, transpose_b, m, n, k, alpha, a, ta, lda, b, tb, ldb, beta, c, tc, ldc);
  return 0;
}
int cublasGemmStridedBatchedEx(void *, int transpose_a, int transpose_b, int m, int n, int k, const void *alpha,
                               const void *a, int ta, int lda, long long step_a, const void *b, int tb, int ldb,
                               long long step_b, const void *beta, void *c, int tc, int ldc, long long step_c,
                               int count, int, int) {
  LAUNCH();
  for (long long i = 0; i < count; i++) {
    Multiply(transpose_a, transpose_b, m, n, k, alpha, (const char *)a + i * step_a * Bytes(ta), ta, lda,
             (const char *)b + i * step_b * Bytes(tb), tb, ldb, beta, (char *)c + i * step_c * Bytes(tc), tc, ldc);
  }
  return 0;
}
}
