// The one error type of the program, and result<T>.
//
// An Error is a std::error_code (what kind, testable) plus a text for people that names the
// object, the site and, where there is one, the remedy. POSIX failures use
// std::generic_category(); failures of the storage layer use Errc below. Errors become errno
// in exactly one place, fs/fuse/reply.cc, through Error::errno_value().
//
// Thread safety: values, like std::string.
#pragma once

#include <boost/outcome/basic_result.hpp>
#include <boost/outcome/policy/terminate.hpp>
#include <boost/outcome/try.hpp>
#include <string>
#include <system_error>
#include <utility>

namespace datacloud {

// Failures of storage, coding and the RPC. The wire carries the number: never renumber.
enum class Errc {
  not_found = 1,      // the object, record or name does not exist
  exists = 2,         // exclusive create met an existing object
  away = 3,           // the site is unmounted, moved, unreachable or is not the one we expect
  timed_out = 4,      // the deadline passed; for a put the outcome is UNKNOWN
  corrupt = 5,        // bytes fail their authenticity, length or format check
  no_space = 6,       // the site is full
  io = 7,             // the medium failed
  invalid = 8,        // malformed request, configuration or argument
  stale = 9,          // the record changed since the snapshot: refetch and redo
  revoked = 10,       // the transaction names a revoked or never granted id: redo under new ids
  unavailable = 11,   // not enough sites or shards; or the daemon cannot be reached
  session_lost = 12,  // the daemon no longer knows the session
  unsupported = 13,   // this back end or version cannot do it
};

const std::error_category& error_category() noexcept;
std::error_code make_error_code(Errc) noexcept;

}  // namespace datacloud

template <>
struct std::is_error_code_enum<datacloud::Errc> : std::true_type {};

namespace datacloud {

class [[nodiscard]] Error {
 public:
  Error() = default;  // needed by containers of results; never a valid failure
  Error(Errc code, std::string text) : code_(code), text_(std::move(text)) {}
  Error(std::error_code code, std::string text) : code_(code), text_(std::move(text)) {}
  // A POSIX failure, from errno or a literal such as ENOENT.
  static Error posix(int errno_value, std::string text);

  const std::error_code& code() const { return code_; }
  const std::string& text() const { return text_; }
  bool is(Errc e) const { return code_ == make_error_code(e); }
  // "TEXT (MESSAGE OF CODE)".
  std::string message() const;
  // The errno a program under the mount sees. EIO for what POSIX has no word for.
  int errno_value() const;
  // The same failure with "CONTEXT: " put in front of its text.
  Error in(const std::string& context) const { return Error(code_, context + ": " + text_); }

 private:
  std::error_code code_;
  std::string text_;
};

// value() on a failure (or error() on success) terminates: it is a bug, not an event.
template <class T>
using result = boost::outcome_v2::basic_result<T, Error, boost::outcome_v2::policy::terminate>;

inline auto success() { return boost::outcome_v2::success(); }
inline auto failure(Errc e, std::string text) {
  return boost::outcome_v2::failure(Error(e, std::move(text)));
}
inline auto failure(Error e) { return boost::outcome_v2::failure(std::move(e)); }

}  // namespace datacloud

// TRY(auto x, expr): x is the value or the function returns the failure. TRY(expr) for
// result<void>.
// (Boost 1.74's own BOOST_OUTCOME_TRY declares the variable itself and would not take `auto`.)
#define DATACLOUD_TRY_OVERLOAD(_1, _2, _3, _4, _5, _6, _7, _8, name, ...) name
#define DATACLOUD_TRY_VALUE(v, ...) \
  BOOST_OUTCOME_TRY2_SUCCESS_LIKELY(BOOST_OUTCOME_TRY_UNIQUE_NAME, v, __VA_ARGS__)
#define TRY(...)                                                                             \
  DATACLOUD_TRY_OVERLOAD(__VA_ARGS__, DATACLOUD_TRY_VALUE, DATACLOUD_TRY_VALUE,              \
                         DATACLOUD_TRY_VALUE, DATACLOUD_TRY_VALUE, DATACLOUD_TRY_VALUE,      \
                         DATACLOUD_TRY_VALUE, DATACLOUD_TRY_VALUE, BOOST_OUTCOME_TRYV, none) \
  (__VA_ARGS__)
