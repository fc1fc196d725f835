// A loop over independent pieces on a few threads.
#pragma once

#include <cstddef>
#include <functional>

#include "common/base/error.h"

namespace datacloud::watermark {

inline constexpr size_t kThreadsMax = 4;

// How many threads work here: of the processors this process may use, at most kThreadsMax;
// DATACLOUD_WATERMARK_THREADS says less.
size_t threads_wanted();

// Calls work(thread, i) once for each i below count, on at most `threads` threads numbered from 0;
// the caller is one of them. Returns one of the failures, after which no further piece is begun.
result<void> for_each_in_parallel(size_t count, size_t threads,
                                  const std::function<result<void>(size_t thread, size_t i)>& work);

}  // namespace datacloud::watermark
