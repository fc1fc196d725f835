// See site_window.h.
#include "common/store/remote/site_window.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "common/base/check.h"

namespace datacloud {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr unsigned kNoExecSeal = 8;  // MFD_NOEXEC_SEAL, Linux 6.3

Error failed(const char* what) {
  return Error::posix(errno, std::string("shared memory: ") + what);
}

}  // namespace

result<std::shared_ptr<SiteWindow>> SiteWindow::map(int fd, size_t bytes) {
  void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) {
    const Error error = failed("mmap");
    ::close(fd);
    return failure(error);
  }
  return std::shared_ptr<SiteWindow>(new SiteWindow(fd, {static_cast<uint8_t*>(at), bytes}));
}

result<std::shared_ptr<SiteWindow>> SiteWindow::make(size_t bytes) {
  constexpr unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  constexpr char name[] = "datacloud-site";
  int fd = ::memfd_create(name, flags | kNoExecSeal);
  if (fd < 0 && errno == EINVAL) fd = ::memfd_create(name, flags);
  if (fd < 0) return failure(failed("memfd_create"));
  if (::ftruncate(fd, static_cast<off_t>(bytes)) != 0 ||
      ::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    const Error error = failed("ftruncate, F_ADD_SEALS");
    ::close(fd);
    return failure(error);
  }
  return map(fd, bytes);
}

result<std::shared_ptr<SiteWindow>> SiteWindow::adopt(int fd, size_t bytes_max) {
  const auto refused = [&](const char* why) {
    ::close(fd);
    return failure(Errc::invalid, std::string("the shared memory ") + why);
  };
  const int seals = ::fcntl(fd, F_GET_SEALS);
  struct ::statfs system {};
  // Of huge pages there may be none left when they are touched, which would be fatal.
  if (seals < 0 || ::fstatfs(fd, &system) != 0 || system.f_type != TMPFS_MAGIC)
    return refused("is none");
  if ((seals & F_SEAL_SHRINK) == 0) return refused("may shrink");
  struct ::stat stat {};
  if (::fstat(fd, &stat) != 0 || stat.st_size <= 0) return refused("is empty");
  if (static_cast<uint64_t>(stat.st_size) > bytes_max) return refused("is too large");
  return map(fd, static_cast<size_t>(stat.st_size));
}

SiteWindow::~SiteWindow() {
  (void)::munmap(bytes_.data(), bytes_.size());
  ::close(fd_);
}

void SiteWindow::release() const { (void)::madvise(bytes_.data(), bytes_.size(), MADV_REMOVE); }

std::optional<uint64_t> WindowRooms::take(uint64_t bytes) {
  if (bytes == 0 || bytes > bytes_) return std::nullopt;
  const uint64_t wanted = std::min(bytes_, (bytes + kPageBytes - 1) / kPageBytes * kPageBytes);
  uint64_t at = 0;
  for (const auto& [offset, end] : taken_) {
    if (offset - at >= wanted) break;
    at = end;
  }
  if (bytes_ - at < wanted) return std::nullopt;
  taken_.emplace(at, at + wanted);
  return at;
}

void WindowRooms::give_back(uint64_t offset) {
  DC_CHECK(taken_.erase(offset) == 1, "a room of the window is given back once");
}

}  // namespace datacloud
