// Errors across the wire: 0 success, positive errno, negative -Errc. A number a peer invents
// becomes `io`, never an enumerator that does not exist.
#include <cerrno>

#include "common/rpc/rpc.h"

namespace datacloud {
namespace {

constexpr int kErrcLast = static_cast<int>(Errc::unsupported);

}  // namespace

void set_error(pb::Reply& reply, const Error& error) {
  const std::error_code& code = error.code();
  if (code.category() == error_category()) {
    reply.set_error(code.value() > 0 ? -code.value() : -static_cast<int>(Errc::io));
  } else {
    const int value = error.errno_value();
    reply.set_error(value > 0 ? value : EIO);
  }
  reply.set_error_text(error.text());
}

result<void> reply_error(const pb::Reply& reply) {
  const int value = reply.error();
  if (value == 0) return success();
  if (value > 0) return failure(Error::posix(value, reply.error_text()));
  if (value < -kErrcLast) return failure(Errc::io, reply.error_text());
  return failure(static_cast<Errc>(-value), reply.error_text());
}

}  // namespace datacloud
