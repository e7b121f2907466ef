/* An Edge TPU that does as it is told: an external TFLite delegate for tests, driven through the real `load_delegate`.
 *
 * It takes over the node `edgetpu-custom-op` and copies the node's input to its output, byte for byte (the "transfer"), which is
 * what the model made by edgetpu_model.py expects: the rest of the network runs on the CPU, so that a healthy fake accelerator
 * gives exactly the CPU model's answers.
 *
 * Orders are words in the file `orders` beside this library, read anew at each step, so that a test can change its mind while the
 * accelerator runs:
 *   absent            create answers NULL with an empty message, as libedgetpu does where there is no device, or it is in use
 *   says WORDS        create answers NULL with these words
 *   abort-create, abort-prepare, abort-invoke   the process ends by SIGABRT, with the words that libedgetpu's USB driver leaves
 *   segv-create       the process ends by SIGSEGV (a libedgetpu built for another runtime)
 *   hang-create, hang-prepare, hang-invoke      never comes back
 *   fail-prepare, fail-invoke                   the runtime is told that it failed: a RuntimeError in Python
 *   wrong             the transfer turns every byte round: other results, no error
 *   silence           the transfer gives zeros: the model finds nothing, no error
 * No file, an empty one or any other word: all is well.
 *
 * It keeps a diary in the file `diary` beside itself: "PID WORD" a line, with create, prepare, invoke, destroy.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tflite_abi.h"

#define EXPORT __attribute__((visibility("default")))
#define EDGETPU_OP "edgetpu-custom-op"
#define CLAIM_MAX 64
#define ALLOW_DYNAMIC_TENSORS 1 /* kTfLiteDelegateFlagsAllowDynamicTensors */

static char folder[4000];

static void find_folder(void) {
  Dl_info info;
  if (folder[0] == 0 && dladdr((void *)&find_folder, &info) != 0) {
    snprintf(folder, sizeof folder, "%s", info.dli_fname);
    char *slash = strrchr(folder, '/');
    if (slash != NULL) *slash = 0;
  }
}

static void note(const char *word) {
  char path[4100], line[100];
  find_folder();
  snprintf(path, sizeof path, "%s/diary", folder);
  int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (file < 0) return;
  int length = snprintf(line, sizeof line, "%d %s\n", (int)getpid(), word);
  if (write(file, line, (size_t)length) < 0) perror("diary");
  close(file);
}

/* The present order: its word in `word`, what follows it in `rest`. */
static void order(char *word, size_t word_size, char *rest, size_t rest_size) {
  char path[4100], line[400] = "";
  word[0] = rest[0] = 0;
  find_folder();
  snprintf(path, sizeof path, "%s/orders", folder);
  FILE *file = fopen(path, "re");
  if (file == NULL) return;
  if (fgets(line, sizeof line, file) != NULL) {
    line[strcspn(line, "\n")] = 0;
    char *space = strchr(line, ' ');
    if (space != NULL) {
      *space = 0;
      snprintf(rest, rest_size, "%s", space + 1);
    }
    snprintf(word, word_size, "%s", line);
  }
  fclose(file);
}

static void hang(void) {
  for (;;) pause();
}

static void transfer_error(void) {
  fputs("F :0] driver/usb/usb_driver.cc:857] transfer on tag 1 failed. Abort. Deadline exceeded: USB transfer error 2\n", stderr);
  fflush(stderr);
  abort();
}

/* What is ordered for one step (create, prepare, invoke): may not return; true where the step is to fail. */
static bool misbehave(const char *step, char *word, size_t word_size) {
  char rest[400], wanted[40];
  order(word, word_size, rest, sizeof rest);
  snprintf(wanted, sizeof wanted, "abort-%s", step);
  if (strcmp(word, wanted) == 0) transfer_error();
  snprintf(wanted, sizeof wanted, "hang-%s", step);
  if (strcmp(word, wanted) == 0) hang();
  snprintf(wanted, sizeof wanted, "segv-%s", step);
  if (strcmp(word, wanted) == 0) {
    volatile int *nowhere = NULL;
    *nowhere = 1;
  }
  snprintf(wanted, sizeof wanted, "fail-%s", step);
  return strcmp(word, wanted) == 0;
}

static Status kernel_prepare(Context *context, Node *node) {
  char word[40];
  note("prepare");
  if (misbehave("prepare", word, sizeof word)) {
    context->ReportError(context, "edgetpu: the model could not be mapped");
    return STATUS_ERROR;
  }
  for (int at = 0; at < node->outputs->size; at++) {
    int number = node->outputs->data[at];
    if (number < 0 || (size_t)number >= context->tensors_size) return STATUS_ERROR; /* not the layout that we know */
  }
  return STATUS_OK;
}

static Status kernel_invoke(Context *context, Node *node) {
  char word[40];
  note("invoke");
  if (misbehave("invoke", word, sizeof word)) {
    context->ReportError(context, "edgetpu: failed to execute request");
    return STATUS_ERROR;
  }
  if (node->inputs->size < 1 || node->outputs->size != 1) return STATUS_ERROR;
  const Tensor *from = &context->tensors[node->inputs->data[0]];
  Tensor *to = &context->tensors[node->outputs->data[0]];
  if (from->bytes != to->bytes || from->data == NULL || to->data == NULL) return STATUS_ERROR;
  if (strcmp(word, "silence") == 0) {
    memset(to->data, 0, to->bytes);
  } else {
    memcpy(to->data, from->data, from->bytes);
  }
  if (strcmp(word, "wrong") == 0) {
    unsigned char *left = to->data, *right = left + to->bytes - 1;
    for (; left < right; left++, right--) {
      unsigned char kept = *left;
      *left = *right;
      *right = kept;
    }
  }
  return STATUS_OK;
}

/* The runtime shows us its graph: claim the nodes that were compiled for an Edge TPU. */
static Status delegate_prepare(Context *context, Delegate *delegate) {
  IntArray *plan;
  if (context->GetExecutionPlan(context, &plan) != STATUS_OK) return STATUS_ERROR;
  IntArray *claimed = calloc(1, sizeof(IntArray) + CLAIM_MAX * sizeof(int));
  if (claimed == NULL) return STATUS_ERROR;
  for (int at = 0; at < plan->size && claimed->size < CLAIM_MAX; at++) {
    Node *node;
    Registration *registration;
    if (context->GetNodeAndRegistration(context, plan->data[at], &node, &registration) != STATUS_OK) break;
    if (registration->custom_name != NULL && strcmp(registration->custom_name, EDGETPU_OP) == 0) {
      claimed->data[claimed->size++] = plan->data[at];
    }
  }
  Registration kernel = {.prepare = kernel_prepare, .invoke = kernel_invoke, .custom_name = "FakeEdgeTpu", .version = 1};
  Status status = context->ReplaceNodeSubsetsWithDelegateKernels(context, kernel, claimed, delegate);
  free(claimed);
  return status;
}

EXPORT Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  (void)keys, (void)values, (void)count;
  char word[40], rest[400];
  note("create");
  misbehave("create", word, sizeof word);
  order(word, sizeof word, rest, sizeof rest);
  if (strcmp(word, "absent") == 0) return NULL;
  if (strcmp(word, "says") == 0) {
    if (report != NULL) report(rest);
    return NULL;
  }
  Delegate *delegate = calloc(1, sizeof *delegate);
  if (delegate == NULL) return NULL;
  delegate->Prepare = delegate_prepare;
  delegate->flags = ALLOW_DYNAMIC_TENSORS; /* else the runtime prepares all nodes first, also the one that it does not have */
  return delegate;
}

EXPORT void tflite_plugin_destroy_delegate(Delegate *delegate) {
  note("destroy");
  free(delegate);
}
