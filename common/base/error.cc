// Messages and errno values of the storage layer's failures.
#include "common/base/error.h"

#include <cerrno>

namespace datacloud {
namespace {

class Category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "datacloud"; }

  std::string message(int value) const override {
    switch (static_cast<Errc>(value)) {
      case Errc::not_found:
        return "not found";
      case Errc::exists:
        return "already exists";
      case Errc::away:
        return "site is away";
      case Errc::timed_out:
        return "timed out";
      case Errc::corrupt:
        return "corrupt";
      case Errc::no_space:
        return "no space left";
      case Errc::io:
        return "input/output error";
      case Errc::invalid:
        return "invalid";
      case Errc::stale:
        return "changed meanwhile";
      case Errc::revoked:
        return "id revoked";
      case Errc::unavailable:
        return "unavailable";
      case Errc::session_lost:
        return "session lost";
      case Errc::unsupported:
        return "not supported";
    }
    return "unknown error " + std::to_string(value);
  }

  std::error_condition default_error_condition(int value) const noexcept override {
    switch (static_cast<Errc>(value)) {
      case Errc::not_found:
        return std::errc::no_such_file_or_directory;
      case Errc::exists:
        return std::errc::file_exists;
      case Errc::no_space:
        return std::errc::no_space_on_device;
      case Errc::invalid:
        return std::errc::invalid_argument;
      case Errc::unsupported:
        return std::errc::operation_not_supported;
      default:
        return std::errc::io_error;
    }
  }
};

}  // namespace

const std::error_category& error_category() noexcept {
  static const Category category;
  return category;
}

std::error_code make_error_code(Errc e) noexcept { return {static_cast<int>(e), error_category()}; }

Error Error::posix(int errno_value, std::string text) {
  return Error(std::error_code(errno_value, std::generic_category()), std::move(text));
}

std::string Error::message() const { return text_ + " (" + code_.message() + ")"; }

int Error::errno_value() const {
  const auto condition = code_.default_error_condition();
  return condition.category() == std::generic_category() ? condition.value() : EIO;
}

}  // namespace datacloud
