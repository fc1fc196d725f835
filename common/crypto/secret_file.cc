// Files with a key (secret_file.h).
#include "common/crypto/secret_file.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace datacloud {
namespace {

class SecretDescriptor {
 public:
  explicit SecretDescriptor(int fd) : fd_(fd) {}
  ~SecretDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  SecretDescriptor(const SecretDescriptor&) = delete;
  SecretDescriptor& operator=(const SecretDescriptor&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

Error secret_file_error(const std::string& what, const std::string& name,
                        const std::filesystem::path& path) {
  return Error::posix(errno, "cannot " + what + " " + name + " " + path.string());
}

bool write_and_sync(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    text.remove_prefix(static_cast<size_t>(n));
  }
  return ::fsync(fd) == 0;
}

}  // namespace

// Written whole under another name and then linked: link refuses to replace a file that exists.
result<void> write_secret_file(const std::filesystem::path& path, std::string_view text,
                               const std::string& name) {
  const std::string temporary = path.string() + "." + std::to_string(::getpid()) + ".tmp";
  ::unlink(temporary.c_str());
  result<void> written = success();
  {
    SecretDescriptor fd(
        ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (fd.get() < 0) return failure(secret_file_error("create", name, path));
    if (::fchmod(fd.get(), 0600) != 0 || !write_and_sync(fd.get(), text))
      written = failure(secret_file_error("write", name, path));
  }
  if (written && ::link(temporary.c_str(), path.c_str()) != 0)
    written = errno == EEXIST
                  ? failure(Errc::exists, name + " " + path.string() + " exists already")
                  : failure(secret_file_error("create", name, path));
  ::unlink(temporary.c_str());
  if (!written) return written;
  const auto directory = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  SecretDescriptor fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0 || ::fsync(fd.get()) != 0)
    return failure(secret_file_error("sync the directory of", name, path));
  return success();
}

result<std::string> read_secret_file(const std::filesystem::path& path, size_t bytes_max,
                                     const std::string& name, const std::string& absent) {
  SecretDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info {};
  if (fd.get() < 0 || ::fstat(fd.get(), &info) != 0) {
    const int error = errno;
    return failure(Errc::invalid, "cannot open " + name + " " + path.string() + ": " +
                                      std::strerror(error) + "; " +
                                      (error == ENOENT ? absent : "check its owner and mode"));
  }
  if (!S_ISREG(info.st_mode))
    return failure(Errc::invalid, name + " " + path.string() + " is not a regular file");
  if ((info.st_mode & 077) != 0)
    return failure(Errc::invalid, name + " " + path.string() +
                                      " can be read by others than its owner; run: chmod 600 " +
                                      path.string());
  std::string text(bytes_max, '\0');
  size_t filled = 0;
  while (filled < text.size()) {
    const ssize_t n = ::read(fd.get(), text.data() + filled, text.size() - filled);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const auto failed = secret_file_error("read", name, path);
      OPENSSL_cleanse(text.data(), text.size());
      return failure(failed);
    }
    if (n == 0) break;
    filled += static_cast<size_t>(n);
  }
  text.resize(filled);
  return text;
}

}  // namespace datacloud
