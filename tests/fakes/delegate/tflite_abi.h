/* The part of TensorFlow Lite's C interface that an external delegate needs, declared by us.
 *
 * A delegate is a shared library with the two functions that Python's `load_delegate` looks up by name (see fake_edgetpu.c). What it
 * hands over is a table of functions whose layout the runtime promises to keep ("semi-ABI stable": fields are only ever added at the
 * end), so the leading fields below are the same from 2.5 (tflite-runtime 2.14) to LiteRT 2.3. Fields that we never read are here
 * for their place alone. 64-bit Linux only, as all boards are.
 *
 * Checked against the running runtime, not believed: fake_edgetpu.c refuses to take part where the context does not look as it
 * should (tensor counts, node's outputs within them), and the tests compare what comes out with the CPU's answer byte by byte.
 */
#ifndef ROOKERY_TFLITE_ABI_H
#define ROOKERY_TFLITE_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { STATUS_OK = 0, STATUS_ERROR = 1, STATUS_DELEGATE_ERROR = 2 } Status;

/* A counted array whose numbers follow the count. */
typedef struct {
  int size;
  int data[];
} IntArray;

typedef struct Context Context;
typedef struct Delegate Delegate;

/* Quantisation is three words here: scale and zero point (the old form, 8 bytes), later type and pointer. */
typedef struct {
  int type;
  void *data;
  IntArray *dims;
  struct {
    float scale;
    int32_t zero_point;
  } params;
  int allocation_type;
  size_t bytes;
  const void *allocation;
  const char *name;
  Delegate *delegate;
  int buffer_handle;
  bool data_is_stale;
  bool is_variable;
  struct {
    int type;
    void *params;
  } quantization;
  void *sparsity;
  const IntArray *dims_signature;
} Tensor;

typedef struct {
  IntArray *inputs;
  IntArray *outputs;
  IntArray *intermediates;
  IntArray *temporaries;
  void *user_data;
  void *builtin_data;
  const void *custom_initial_data;
  int custom_initial_data_size;
  Delegate *delegate;
  bool might_have_side_effect;
} Node;

/* How an operation is carried out; the last two came later and are passed by value, so they must be here and zero. */
typedef struct {
  void *(*init)(Context *, const char *, size_t);
  void (*free)(Context *, void *);
  Status (*prepare)(Context *, Node *);
  Status (*invoke)(Context *, Node *);
  const char *(*profiling_string)(const Context *, const Node *);
  int32_t builtin_code;
  const char *custom_name;
  int version;
  void *registration_external;
  void *(*async_kernel)(Context *, Node *);
  uint64_t inplace_operator;
} Registration;

/* What the runtime lets us ask and do: the leading fields, in their order. */
struct Context {
  size_t tensors_size;
  Status (*GetExecutionPlan)(Context *, IntArray **);
  Tensor *tensors;
  void *impl_;
  Status (*ResizeTensor)(Context *, Tensor *, IntArray *);
  void (*ReportError)(Context *, const char *, ...);
  Status (*AddTensors)(Context *, int, int *);
  Status (*GetNodeAndRegistration)(Context *, int, Node **, Registration **);
  Status (*ReplaceNodeSubsetsWithDelegateKernels)(Context *, Registration, const IntArray *, Delegate *);
};

struct Delegate {
  void *data_;
  Status (*Prepare)(Context *, Delegate *);
  Status (*CopyFromBufferHandle)(Context *, Delegate *, int, Tensor *);
  Status (*CopyToBufferHandle)(Context *, Delegate *, int, Tensor *);
  void (*FreeBufferHandle)(Context *, Delegate *, int *);
  int64_t flags;
  void *opaque_delegate_builder;
};

#endif
