// What the files of this folder share: handles to stores and groups, and exceptions as messages.

#pragma once

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <torch/headeronly/version.h>

#if TORCH_VERSION_MAJOR != 2 || TORCH_VERSION_MINOR != 11
#error "c10d's classes are not a stable interface: this folder is written for libtorch 2.11"
#endif

using Milliseconds = std::chrono::milliseconds;

struct Store {
  c10::intrusive_ptr<c10d::Store> store;
};

// A group of processes, over Gloo or NCCL.
struct Group {
  c10::intrusive_ptr<c10d::Backend> group;
  Milliseconds timeout;
  bool is_nccl;
};

inline char* text(const char* from) {
  char* copy = static_cast<char*>(std::malloc(std::strlen(from) + 1));
  return copy ? std::strcpy(copy, from) : copy;
}

// Returns nullptr, or the message of the exception that the work threw.
template <typename Work>
char* guarded(Work work) {
  try {
    work();
    return nullptr;
  } catch (const c10::Error& error) {
    return text(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return text(error.what());
  } catch (...) {
    return text("an exception that is no std::exception");
  }
}
