// A program that goes on in the background: the caller's shell gets its prompt back when the
// program is ready, or has said why it never will be.
//
// To be called before any thread is started: the process forks.
#pragma once

#include <functional>
#include <string>

#include "common/base/error.h"

namespace datacloud {

// Forks. The child, in a session of its own, runs `serve`, which calls `ready` once when it serves:
// then its standard streams lead nowhere, its directory is /, and the parent goes on. The parent
// meanwhile runs `waiting` (may be empty) with a descriptor that becomes readable when that is so.
//
// In both processes the return value is the exit status: in the child what `serve` returns; in the
// parent 0 when the child is ready, else the child's status, or `failed` when it has none. An
// error: there is no child.
result<int> run_in_background(int failed, const std::function<void(int ready)>& waiting,
                              const std::function<int(const std::function<void()>& ready)>& serve);

}  // namespace datacloud
