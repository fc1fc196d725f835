// How much slower than usual the tests may be: sanitizer builds are unoptimised, too. Bounds of
// time are multiplied by it; anything else is the same in every build.
#pragma once

namespace datacloud {

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr int kSlowdown = 10;
#define DATACLOUD_SLOWDOWN_KNOWN
#endif
#endif
#ifndef DATACLOUD_SLOWDOWN_KNOWN
inline constexpr int kSlowdown = 1;
#endif

}  // namespace datacloud
