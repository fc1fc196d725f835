// `datacloud clone`: a copy of a file that shares its blocks, made by copy_file_range(2) below a
// mount. The copy is made under another name and renamed when it is whole.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <utility>

#include "common/base/clock.h"
#include "common/base/clone_ioctl.h"
#include "tools/commands.h"
#include "tools/exit_codes.h"
#include "tools/json_text.h"
#include "tools/mounted_path.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

// Copied at once where sharing is refused, before it is tried again.
constexpr uint64_t kCopiedAtOnce = 16u << 20;

class File {
 public:
  File() = default;
  explicit File(int fd) : fd_(fd) {}
  File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  File& operator=(File&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  int fd() const { return fd_; }

 private:
  int fd_ = -1;
};

Error last_error(const std::string& what) { return Error::posix(errno, what); }

result<struct stat> stat_of(const File& file, const std::string& path) {
  struct stat st {};
  if (::fstat(file.fd(), &st) != 0) return failure(last_error(path));
  return st;
}

struct Done {
  uint64_t shared = 0, copied = 0;
  Duration took{};
};

// The copy until it has its name; removed when it never gets it.
class NewFile {
 public:
  static result<NewFile> make(const std::filesystem::path& target, mode_t mode) {
    for (int attempt = 0; attempt < 100; ++attempt) {
      const auto path = target.parent_path() /
                        fmt::format(".{}.clone-{}-{}", target.filename().string().substr(0, 200),
                                    ::getpid(), attempt);
      const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
      if (fd >= 0) return NewFile(path, File(fd));
      if (errno != EEXIST) return failure(last_error(path.string()));
    }
    return failure(Errc::exists, target.string() + ": no free name beside it");
  }
  NewFile(NewFile&& other) noexcept
      : path_(std::exchange(other.path_, {})), file_(std::move(other.file_)) {}
  NewFile& operator=(NewFile&&) = delete;
  ~NewFile() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  const File& file() const { return file_; }
  const std::filesystem::path& path() const { return path_; }
  result<void> rename_to(const std::string& target, bool replace) {
    if (::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, target.c_str(),
                    replace ? 0 : RENAME_NOREPLACE) != 0) {
      return failure(last_error(target));
    }
    path_.clear();
    return success();
  }

 private:
  NewFile(std::filesystem::path path, File file) : path_(std::move(path)), file_(std::move(file)) {}
  std::filesystem::path path_;
  File file_;
};

result<void> share_only(const NewFile& target, bool on) {
  const uint32_t value = on ? 1 : 0;
  if (::ioctl(target.file().fd(), kIoctlShareOnly, &value) == 0) return success();
  if (errno == EOPNOTSUPP) {
    return failure(Errc::unsupported,
                   "the cloud does not use shared-slots; `datacloud feature enable shared-slots` "
                   "switches it on (mounts hear of it within seconds)");
  }
  if (errno == ENOTTY) {
    return failure(Errc::unsupported,
                   "the mount does not know clones; install this version on the node and mount "
                   "again");
  }
  return failure(last_error(target.path().string()));
}

Error not_shared(const CloneOptions& options, const struct stat& source, const struct stat& target,
                 int error) {
  std::string why =
      "a stripe of it is shared too often already, damaged, or the file is being "
      "changed";
  if (source.st_blksize != target.st_blksize) {
    why = fmt::format(
        "its blocks are of {}, those of new files in the target's directory of {}; "
        "see `datacloud policy show`",
        human_bytes(static_cast<uint64_t>(source.st_blksize)),
        human_bytes(static_cast<uint64_t>(target.st_blksize)));
  } else if (error == EINVAL) {
    why = "the two directories keep blocks in different ways (realm or key)";
  }
  return Error::posix(
      error, fmt::format("{} cannot be shared: {}. --copy-allowed copies", options.source, why));
}

// The errno of copy_file_range, or 0; `bytes` are what it did.
int copy_some(const File& source, const NewFile& target, uint64_t offset, uint64_t length,
              uint64_t* bytes) {
  loff_t from = static_cast<loff_t>(offset), to = from;
  const ssize_t n = ::copy_file_range(source.fd(), &from, target.file().fd(), &to,
                                      static_cast<size_t>(length), 0);
  *bytes = n > 0 ? static_cast<uint64_t>(n) : 0;
  return n < 0 ? errno : 0;
}

result<void> copy_all(const CloneOptions& options, const File& source, uint64_t size,
                      const NewFile& target, Done& done) {
  while (done.copied < size) {
    uint64_t bytes = 0;
    const int error =
        copy_some(source, target, done.copied, std::min(size - done.copied, kCopiedAtOnce), &bytes);
    if (error == EINTR) continue;
    if (error != 0) return failure(Error::posix(error, options.source));
    if (bytes == 0) break;  // cut meanwhile
    done.copied += bytes;
  }
  return success();
}

result<void> fill(const CloneOptions& options, const File& source, const struct stat& st,
                  const NewFile& target, Done& done) {
  TRY(const struct stat made, stat_of(target.file(), target.path().string()));
  const auto size = static_cast<uint64_t>(st.st_size);
  const auto sharing = share_only(target, true);
  // Where the cloud shares nothing, whoever allows copying gets a copy.
  if (!sharing && options.copy_allowed && sharing.error().is(Errc::unsupported))
    return copy_all(options, source, size, target, done);
  if (!sharing) return failure(sharing.error());
  for (uint64_t at = 0; at < size;) {
    uint64_t bytes = 0;
    int error = copy_some(source, target, at, size - at, &bytes);
    done.shared += bytes;
    if (error == EINVAL || error == EMLINK) {
      if (!options.copy_allowed) return failure(not_shared(options, st, made, error));
      TRY(share_only(target, false));
      error = copy_some(source, target, at, std::min(size - at, kCopiedAtOnce), &bytes);
      done.copied += bytes;
      TRY(share_only(target, true));
    }
    if (error == EINTR) continue;
    if (error != 0) return failure(Error::posix(error, options.source));
    if (bytes == 0) break;  // cut meanwhile
    at += bytes;
  }
  return success();
}

result<void> check_places(const CloneOptions& options, const File& source, struct stat& st) {
  TRY(st, stat_of(source, options.source));
  if (!S_ISREG(st.st_mode)) {
    return failure(Errc::invalid, options.source + " is not a regular file");
  }
  TRY(const auto inode, mounted_inode(options.source));
  if (!inode) return failure(Errc::invalid, options.source + " is not below a mount of a cloud");
  auto directory = std::filesystem::path(options.target).parent_path();
  if (directory.empty()) directory = ".";
  struct stat beside {};
  if (::stat(directory.c_str(), &beside) != 0) return failure(last_error(directory.string()));
  if (beside.st_dev != st.st_dev) {
    return failure(Errc::invalid, fmt::format("{} and {} are not below one mount", options.source,
                                              options.target));
  }
  struct stat target {};
  if (::lstat(options.target.c_str(), &target) != 0) return success();
  if (!options.force) return failure(Errc::exists, options.target + " exists; --force replaces it");
  if (S_ISDIR(target.st_mode))
    return failure(Error::posix(EISDIR, options.target +
                                            " is a directory, which --force does not replace: name "
                                            "a file, such as " +
                                            (std::filesystem::path(options.target) /
                                             std::filesystem::path(options.source).filename())
                                                .string()));
  if (target.st_ino == st.st_ino) {
    return failure(Errc::invalid, options.source + " and " + options.target + " are one file");
  }
  return success();
}

result<Done> clone(const CloneOptions& options) {
  const auto start = monotonic_now();
  // Without waiting for whoever may write to a FIFO: it is refused as no regular file.
  File source(::open(options.source.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (source.fd() < 0) return failure(last_error(options.source));
  struct stat st {};
  TRY(check_places(options, source, st));
  TRY(auto target, NewFile::make(options.target, st.st_mode & 0777));
  Done done;
  TRY(fill(options, source, st, target, done));
  TRY(target.rename_to(options.target, options.force));
  done.took = monotonic_now() - start;
  return done;
}

}  // namespace

int run_clone(const CommandContext& context, const CloneOptions& options) {
  const auto done = clone(options);
  if (!done) return report_failure(done.error());
  const auto& [shared, copied, took] = done.value();
  const double seconds = std::chrono::duration<double>(took).count();
  if (context.json) {
    fmt::print(
        "{}",
        json_text({{"bytes_shared", shared}, {"bytes_copied", copied}, {"seconds", seconds}}));
  } else if (copied > 0) {
    fmt::print("{} shared and {} copied in {:.2f} s\n", human_bytes(shared), human_bytes(copied),
               seconds);
  } else {
    fmt::print("{} shared in {:.2f} s\n", human_bytes(shared), seconds);
  }
  return kExitOk;
}

}  // namespace datacloud
