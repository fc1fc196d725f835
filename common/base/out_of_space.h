// Failures for want of room, of a disk, a cluster or a quota: trying again helps only after
// somebody has made room.
//
// Two kinds reach programs as they are: ENOSPC (Errc::no_space) and EDQUOT, where a quota is used
// up and there may be space for others.
#pragma once

#include <cerrno>

#include "common/base/error.h"

namespace datacloud {

inline Error quota_error(std::string text) { return Error::posix(EDQUOT, std::move(text)); }
inline bool is_quota(const Error& error) { return error.errno_value() == EDQUOT; }
inline bool is_out_of_space(const Error& error) {
  return error.errno_value() == ENOSPC || is_quota(error);
}

}  // namespace datacloud
