// Files by pread (byte_source.h).
#include "watermark/picture/byte_source.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/base/check.h"

namespace datacloud::watermark {
namespace {

class FileSource : public ByteSource {
 public:
  FileSource(std::string name, int fd, uint64_t size)
      : name_(std::move(name)), fd_(fd), size_(size) {}
  ~FileSource() override { ::close(fd_); }
  const std::string& name() const override { return name_; }
  uint64_t size() const override { return size_; }
  result<void> read(uint64_t offset, MutableByteView out) const override {
    if (offset > size_ || out.size() > size_ - offset)
      return failure(Errc::corrupt, name_ + " is cut short, or points behind its end");
    while (!out.empty()) {
      const ssize_t n = ::pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return failure(Error::posix(errno, "cannot read " + name_));
      if (n == 0) return failure(Errc::corrupt, name_ + " became shorter while it was read");
      offset += static_cast<uint64_t>(n);
      out = out.subspan(static_cast<size_t>(n));
    }
    return success();
  }

 private:
  const std::string name_;
  const int fd_;
  const uint64_t size_;
};

}  // namespace

result<std::unique_ptr<ByteSource>> open_source(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return failure(Error::posix(errno, "cannot open " + path));
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    return failure(Errc::invalid, path + " is not a regular file");
  }
  return std::unique_ptr<ByteSource>(
      std::make_unique<FileSource>(path, fd, static_cast<uint64_t>(info.st_size)));
}

result<void> PatchedSource::read(uint64_t offset, MutableByteView out) const {
  if (offset > size_ || out.size() > size_ - offset)
    return failure(Errc::corrupt, name() + " is cut short, or points behind its end");
  TRY(under_.read(offset, out));
  for (const auto& patch : patches_) {
    const uint64_t begin = std::max(offset, patch.offset);
    const uint64_t end = std::min(offset + out.size(), patch.offset + patch.bytes.size());
    if (begin < end)
      std::memcpy(out.data() + (begin - offset), patch.bytes.data() + (begin - patch.offset),
                  end - begin);
  }
  return success();
}

result<Bytes> sha256_of(const ByteSource& source, const std::vector<ByteRange>& ranges) {
  constexpr uint64_t kPieceBytes = 1 << 20;
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        &EVP_MD_CTX_free);
  DC_CHECK(context != nullptr && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1);
  Bytes piece;
  for (ByteRange range : ranges) {
    while (range.length > 0) {
      piece.resize(std::min(kPieceBytes, range.length));
      TRY(source.read(range.offset, piece));
      DC_CHECK(EVP_DigestUpdate(context.get(), piece.data(), piece.size()) == 1);
      range.offset += piece.size();
      range.length -= piece.size();
    }
  }
  Bytes digest(32);
  DC_CHECK(EVP_DigestFinal_ex(context.get(), digest.data(), nullptr) == 1);
  return digest;
}

}  // namespace datacloud::watermark
