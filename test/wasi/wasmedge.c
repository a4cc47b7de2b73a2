// The WASI cases on WasmEdge alone: wasmedge MODULE DIRECTORY NAME=VALUE... -- WORD...
//
// Of each line of its input, a case, it prints the name, how the case ended, and what it wrote to its standard error, with tabs
// between. The directory is the guest's "/"; the guest has the user and group 1000. Each case has a process of its own.
#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wasmedge/wasmedge.h>

enum { TRAP = 134, MOST = 1 << 16, SECONDS = 10 };

static void run(const char *module, const char *directory, const char *const *arguments, int count,
                const char *const *environment, int variables) {
  char preopened[4096];
  snprintf(preopened, sizeof preopened, "/:%s", directory);
  const char *directories[] = {preopened};
  if (setgroups(0, NULL) || setresgid(1000, 1000, 1000) || setresuid(1000, 1000, 1000)) {
    perror("could not become user 1000");
    _exit(3);
  }
  // A case that waits for ever ends with 142.
  alarm(SECONDS);
  WasmEdge_LogOff();
  WasmEdge_ConfigureContext *configuration = WasmEdge_ConfigureCreate();
  WasmEdge_ConfigureAddHostRegistration(configuration, WasmEdge_HostRegistration_Wasi);
  WasmEdge_VMContext *machine = WasmEdge_VMCreate(configuration, NULL);
  WasmEdge_ModuleInstanceContext *wasi = WasmEdge_VMGetImportModuleContext(machine, WasmEdge_HostRegistration_Wasi);
  WasmEdge_ModuleInstanceInitWASI(wasi, arguments, count, environment, variables, directories, 1);
  WasmEdge_Result result =
      WasmEdge_VMRunWasmFromFile(machine, module, WasmEdge_StringCreateByCString("_start"), NULL, 0, NULL, 0);
  _exit(WasmEdge_ResultOK(result) ? (int)WasmEdge_ModuleInstanceWASIGetExitCode(wasi) : TRAP);
}

int main(int count, char **words) {
  if (count < 4) {
    fprintf(stderr, "usage: %s MODULE DIRECTORY NAME=VALUE... -- WORD...\n", words[0]);
    return 2;
  }
  int end = 3;
  while (end < count && strcmp(words[end], "--") != 0) {
    end++;
  }
  static char line[256], said[MOST];
  while (fgets(line, sizeof line, stdin)) {
    line[strcspn(line, "\n")] = 0;
    const char *arguments[64] = {"/app.wasm", line};
    int number = 2;
    for (int word = end + 1; word < count && number < 64; word++) {
      arguments[number++] = words[word];
    }
    int streams[2];
    if (pipe(streams)) {
      return 3;
    }
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
      int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
      dup2(nothing, 0);
      dup2(nothing, 1);
      dup2(streams[1], 2);
      close(streams[0]);
      close(streams[1]);
      run(words[1], words[2], arguments, number, (const char *const *)(words + 3), end - 3);
    }
    close(streams[1]);
    ssize_t part, length = 0;
    while (length < MOST - 1 && (part = read(streams[0], said + length, MOST - 1 - length)) > 0) {
      length += part;
    }
    close(streams[0]);
    said[length] = 0;
    while (length > 0 && said[length - 1] == '\n') {
      said[--length] = 0;
    }
    for (char *byte = said; *byte; byte++) {
      if (*byte == '\n' || *byte == '\t') {
        *byte = ' ';
      }
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) {
      return 3;
    }
    printf("%s\t%d\t%s\n", line, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), said);
  }
  return 0;
}
