// O_TMPFILE and a link where the file system can do that, else a temporary name (output_file.h).
#include "watermark/picture/output_file.h"

#include <fcntl.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "common/base/hex.h"

namespace datacloud::watermark {
namespace {

std::string directory_of(const std::string& path) {
  const auto parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

Error exists(const std::string& path) {
  return Error(Errc::exists, path + " exists already; --force replaces it");
}

}  // namespace

std::string OutputFile::beside() const {
  Bytes random(6);
  (void)RAND_bytes(random.data(), static_cast<int>(random.size()));
  const std::filesystem::path path(path_);
  return (path.parent_path() / ("." + path.filename().string() + ".part-" + to_hex(random)))
      .string();
}

result<std::unique_ptr<OutputFile>> OutputFile::create(const std::string& path, bool replace) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) == 0) {
    if (!replace) return failure(exists(path));
    if (!S_ISREG(info.st_mode))
      return failure(Errc::invalid, path + " is no regular file, and is not replaced");
  }
  std::unique_ptr<OutputFile> file(new OutputFile(path, replace));
  file->fd_ = ::open(directory_of(path).c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
  if (file->fd_ < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
    file->temporary_ = file->beside();
    file->fd_ =
        ::open(file->temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
  }
  if (file->fd_ < 0) return failure(Error::posix(errno, "cannot create " + path));
  return file;
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

result<void> OutputFile::read(uint64_t offset, MutableByteView out) const {
  while (!out.empty()) {
    const ssize_t n = ::pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      return failure(
          Error::posix(n < 0 ? errno : EIO, "cannot read back what was written of " + path_));
    offset += static_cast<uint64_t>(n);
    out = out.subspan(static_cast<size_t>(n));
  }
  return success();
}

result<void> OutputFile::write(uint64_t offset, ByteView bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failure(Error::posix(errno, "cannot write " + path_));
    offset += static_cast<uint64_t>(n);
    bytes = bytes.subspan(static_cast<size_t>(n));
    size_ = offset > size_ ? offset : size_;
  }
  return success();
}

result<void> OutputFile::set_size(uint64_t size) {
  if (::ftruncate(fd_, static_cast<off_t>(size)) != 0)
    return failure(Error::posix(errno, "cannot write " + path_));
  size_ = size;
  return success();
}

result<void> OutputFile::commit() {
  const auto failed = [&] { return failure(Error::posix(errno, "cannot write " + path_)); };
  if (::fsync(fd_) != 0) return failed();
  if (temporary_.empty()) {
    const std::string self = "/proc/self/fd/" + std::to_string(fd_);
    const std::string name = replace_ ? beside() : path_;
    if (::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) != 0)
      return errno == EEXIST ? failure(exists(path_)) : failed();
    if (replace_) temporary_ = name;
  }
  if (!temporary_.empty()) {
    if (replace_) {
      if (::rename(temporary_.c_str(), path_.c_str()) != 0) return failed();
      temporary_.clear();
    } else if (::link(temporary_.c_str(), path_.c_str()) != 0) {
      // Where there are no links either: refused by renameat2 if somebody has made the file
      // meanwhile.
      if (errno == EEXIST) return failure(exists(path_));
      if (::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), RENAME_NOREPLACE) != 0)
        return errno == EEXIST ? failure(exists(path_)) : failed();
      temporary_.clear();
    }
  }
  const int directory = ::open(directory_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool durable = directory >= 0 && ::fsync(directory) == 0;
  const int error = errno;
  if (directory >= 0) ::close(directory);
  if (!durable)
    return failure(Error::posix(error, "cannot make the name of " + path_ + " durable"));
  return success();
}

}  // namespace datacloud::watermark
