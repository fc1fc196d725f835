// The real file layer: POSIX calls, EINTR and partial writes handled, every error naming its path.
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "common/base/clock.h"
#include "common/base/file_layer.h"

namespace datacloud {
namespace {

constexpr mode_t kFileMode = 0640;
constexpr mode_t kDirectoryMode = 0750;
constexpr int kPartsPerCall = 64;  // below IOV_MAX everywhere

auto fail(const char* call, const std::string& path) {
  const int error = errno;
  return failure(Error::posix(error, std::string(call) + " " + path));
}

template <class Call>
auto retry(Call call) {
  decltype(call()) r;
  do {
    r = call();
  } while (r < 0 && errno == EINTR);
  return r;
}

class PosixFile final : public File {
 public:
  PosixFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  ~PosixFile() override { ::close(fd_); }
  PosixFile(const PosixFile&) = delete;
  PosixFile& operator=(const PosixFile&) = delete;

  result<void> append(ByteView data) override { return append_parts({data}); }

  result<void> append_parts(const std::vector<ByteView>& parts) override {
    iovec iov[kPartsPerCall];
    size_t part = 0, offset = 0;  // the first byte not yet written
    while (part < parts.size()) {
      int count = 0;
      for (size_t i = part; i < parts.size() && count < kPartsPerCall; ++i) {
        const auto rest = i == part ? parts[i].subspan(offset) : parts[i];
        iov[count++] = {const_cast<uint8_t*>(rest.data()), rest.size()};
      }
      const ssize_t n = retry([&] { return ::writev(fd_, iov, count); });
      if (n < 0) return fail("write", path_);
      offset += static_cast<size_t>(n);
      while (part < parts.size() && offset >= parts[part].size()) offset -= parts[part++].size();
    }
    return success();
  }

  result<void> write_at(uint64_t offset, ByteView data) override {
    size_t done = 0;
    while (done < data.size()) {
      const ssize_t n = retry([&] {
        return ::pwrite(fd_, data.data() + done, data.size() - done,
                        static_cast<off_t>(offset + done));
      });
      if (n < 0) return fail("write", path_);
      done += static_cast<size_t>(n);
    }
    return success();
  }

  result<size_t> pread(uint64_t offset, MutableByteView out) override {
    size_t done = 0;
    while (done < out.size()) {
      const ssize_t n = retry([&] {
        return ::pread(fd_, out.data() + done, out.size() - done,
                       static_cast<off_t>(offset + done));
      });
      if (n < 0) return fail("read", path_);
      if (n == 0) break;
      done += static_cast<size_t>(n);
    }
    return done;
  }

  result<void> sync() override {
    if (retry([&] { return ::fdatasync(fd_); }) < 0) return fail("fsync", path_);
    return success();
  }

  result<uint64_t> size() override {
    struct ::stat st;
    if (::fstat(fd_, &st) < 0) return fail("stat", path_);
    if (!S_ISREG(st.st_mode)) {
      return failure(Error::posix(S_ISDIR(st.st_mode) ? EISDIR : EINVAL, "not a file: " + path_));
    }
    return static_cast<uint64_t>(st.st_size);
  }

 private:
  const int fd_;
  const std::string path_;
};

// Past the page cache: memory, place and length of each call are multiples of kWriteThroughBytes,
// so what callers have is copied.
class DirectFile final : public File {
 public:
  DirectFile(int fd, std::string path) : plain_(fd, path), path_(std::move(path)) {}

  result<void> append(ByteView) override {
    return failure(Error::posix(EINVAL, "append to " + path_ + ", which is opened for write_at"));
  }
  result<void> write_at(uint64_t offset, ByteView data) override {
    if (offset % kWriteThroughBytes != 0 || data.size() % kWriteThroughBytes != 0) {
      return failure(Error::posix(EINVAL, "write to " + path_ + " off its units"));
    }
    TRY(grow(data.size()));
    std::copy(data.begin(), data.end(), buffer_.get());
    return plain_.write_at(offset, ByteView(buffer_.get(), data.size()));
  }
  result<size_t> pread(uint64_t offset, MutableByteView out) override {
    const uint64_t start = offset / kWriteThroughBytes * kWriteThroughBytes;
    const uint64_t end = offset + out.size();
    TRY(grow(end - start));
    TRY(const size_t n, plain_.pread(start, MutableByteView(buffer_.get(), room_)));
    const size_t skipped = static_cast<size_t>(offset - start);
    const size_t got = n > skipped ? std::min(n - skipped, out.size()) : 0;
    std::copy_n(buffer_.get() + skipped, got, out.begin());
    return got;
  }
  result<void> sync() override { return plain_.sync(); }
  result<uint64_t> size() override { return plain_.size(); }

 private:
  struct Free {
    void operator()(uint8_t* p) const { std::free(p); }
  };
  result<void> grow(uint64_t bytes) {
    if (bytes <= room_) return success();
    const size_t room = (bytes + kWriteThroughBytes - 1) / kWriteThroughBytes * kWriteThroughBytes;
    buffer_.reset(static_cast<uint8_t*>(std::aligned_alloc(kWriteThroughBytes, room)));
    room_ = buffer_ ? room : 0;
    if (!buffer_) return failure(Error::posix(ENOMEM, "write " + path_));
    return success();
  }

  PosixFile plain_;
  const std::string path_;
  std::unique_ptr<uint8_t, Free> buffer_;
  size_t room_ = 0;
};

int open_flags(FileLayer::Open how) {
  switch (how) {
    case FileLayer::Open::read:
      return O_RDONLY | O_NONBLOCK;  // a planted FIFO must not hang us
    case FileLayer::Open::create_exclusive:
      return O_RDWR | O_CREAT | O_EXCL;
    case FileLayer::Open::truncate:
      return O_RDWR | O_CREAT | O_TRUNC;
    case FileLayer::Open::read_through:
      return O_RDONLY | O_NONBLOCK | O_DIRECT;
    case FileLayer::Open::write_through:
      return O_RDWR | O_NONBLOCK | O_DSYNC | O_DIRECT;
    case FileLayer::Open::append:
      break;
  }
  return O_RDWR | O_CREAT | O_APPEND;
}

class PosixFileLayer final : public FileLayer {
 public:
  result<std::unique_ptr<File>> open(const std::string& path, Open how) override {
    return open_flagged(path, open_flags(how));
  }

  result<Stat> stat(const std::string& path) override {
    struct ::stat st;
    if (::stat(path.c_str(), &st) < 0) return fail("stat", path);
    Stat out;
    out.is_directory = S_ISDIR(st.st_mode);
    out.size = static_cast<uint64_t>(st.st_size);
    out.device = st.st_dev;
    out.inode = st.st_ino;
    out.mtime_ns = wall_ns(st.st_mtim);
    return out;
  }

  result<void> make_directory(const std::string& path) override {
    return done(::mkdir(path.c_str(), kDirectoryMode), "mkdir", path);
  }
  result<void> remove_directory(const std::string& path) override {
    return done(::rmdir(path.c_str()), "rmdir", path);
  }
  result<void> unlink(const std::string& path) override {
    return done(::unlink(path.c_str()), "unlink", path);
  }
  result<void> rename(const std::string& from, const std::string& to) override {
    return done(::rename(from.c_str(), to.c_str()), "rename", from + " to " + to);
  }
  result<void> link(const std::string& from, const std::string& to) override {
    return done(::link(from.c_str(), to.c_str()), "link", from + " to " + to);
  }

  result<void> sync_directory(const std::string& path) override {
    const int fd = retry([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
    if (fd < 0) return fail("open directory", path);
    const int r = retry([&] { return ::fsync(fd); });
    const int error = errno;
    ::close(fd);
    if (r < 0) return failure(Error::posix(error, "fsync directory " + path));
    return success();
  }

  result<std::vector<std::string>> list(const std::string& path) override {
    std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), ::closedir);
    if (!directory) return fail("open directory", path);
    std::vector<std::string> names;
    for (;;) {
      errno = 0;
      const dirent* entry = ::readdir(directory.get());
      if (entry == nullptr) break;
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    if (errno != 0) return fail("read directory", path);
    return names;
  }

  result<void> lock(const std::string& path, std::unique_ptr<File>& held) override {
    const int fd = open_descriptor(path, O_RDWR | O_CREAT);
    if (fd < 0) return fail("open", path);
    auto file = std::make_unique<PosixFile>(fd, path);
    if (retry([&] { return ::flock(fd, LOCK_EX | LOCK_NB); }) < 0) return fail("lock", path);
    held = std::move(file);
    return success();
  }

  result<Space> space(const std::string& path) override {
    struct ::statvfs st;
    if (retry([&] { return ::statvfs(path.c_str(), &st); }) < 0) return fail("statvfs", path);
    return Space{uint64_t{st.f_blocks} * st.f_frsize, uint64_t{st.f_bavail} * st.f_frsize};
  }

 private:
  static int open_descriptor(const std::string& path, int flags) {
    return retry([&] { return ::open(path.c_str(), flags | O_CLOEXEC | O_NOCTTY, kFileMode); });
  }
  static result<std::unique_ptr<File>> open_flagged(const std::string& path, int flags) {
    int fd = open_descriptor(path, flags);
    if (fd < 0 && errno == EINVAL && (flags & O_DIRECT) != 0) {
      fd = open_descriptor(path, flags & ~O_DIRECT);  // a file system without direct I/O
    }
    if (fd < 0) return fail("open", path);
    if ((flags & O_DIRECT) != 0) return std::unique_ptr<File>(new DirectFile(fd, path));
    return std::unique_ptr<File>(new PosixFile(fd, path));
  }
  static result<void> done(int r, const char* call, const std::string& path) {
    if (r < 0) return fail(call, path);
    return success();
  }
};

}  // namespace

std::shared_ptr<FileLayer> make_posix_file_layer() { return std::make_shared<PosixFileLayer>(); }

}  // namespace datacloud
