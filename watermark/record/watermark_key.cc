// Key files and derivation (watermark_key.h).
#include "watermark/record/watermark_key.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/base/check.h"
#include "common/base/hex.h"

namespace datacloud::watermark {
namespace {

constexpr std::string_view kFirstLine = "datacloud-watermark-key 1\nkey ";
constexpr size_t kCheckBytes = 8;
constexpr size_t kKeyBytes = 32;
constexpr size_t kFileBytesMax = 256;

std::string check_of(std::string_view text) {
  uint8_t digest[EVP_MAX_MD_SIZE];
  DC_CHECK(EVP_Digest(text.data(), text.size(), digest, nullptr, EVP_sha256(), nullptr) == 1);
  return to_hex({digest, kCheckBytes});
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    text.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

bool sync_directory_of(const std::filesystem::path& path) {
  const auto directory = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  Descriptor fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return fd.get() >= 0 && ::fsync(fd.get()) == 0;
}

}  // namespace

std::string encode_watermark_key(const SecretKey& key) {
  std::string text = std::string(kFirstLine) + to_hex(key.view()) + "\n";
  return text + "check " + check_of(text) + "\n";
}

result<SecretKey> parse_watermark_key(std::string_view text, const std::string& name) {
  const auto refuse = [&](const char* why) {
    return failure(Errc::invalid, "watermark key " + name + " " + why);
  };
  if (!text.starts_with(kFirstLine))
    return refuse("is no watermark key file; `datacloud watermark apply --key-out` makes one");
  Bytes key(kKeyBytes);
  const size_t body = kFirstLine.size() + 2 * kKeyBytes + 1;
  if (text.size() < body || !from_hex(text.substr(kFirstLine.size(), 2 * kKeyBytes), key) ||
      text !=
          std::string(text.substr(0, body)) + "check " + check_of(text.substr(0, body)) + "\n") {
    OPENSSL_cleanse(key.data(), key.size());
    return refuse("is damaged; take it from its backup");
  }
  SecretKey parsed{ByteView(key)};
  OPENSSL_cleanse(key.data(), key.size());
  return parsed;
}

result<SecretKey> create_watermark_key(const std::filesystem::path& path) {
  Descriptor fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (fd.get() < 0 && errno == EEXIST)
    return failure(Errc::exists, "the key file " + path.string() +
                                     " exists already; use it with --key, or choose another name");
  if (fd.get() < 0)
    return failure(Error::posix(errno, "cannot create the key file " + path.string()));
  const SecretKey key = SecretKey::random();
  std::string text = encode_watermark_key(key);
  const bool written = ::fchmod(fd.get(), 0600) == 0 && write_all(fd.get(), text) &&
                       ::fsync(fd.get()) == 0 && sync_directory_of(path);
  const int error = errno;
  OPENSSL_cleanse(text.data(), text.size());
  if (written) return key;
  ::unlink(path.c_str());
  return failure(Error::posix(error, "cannot write the key file " + path.string()));
}

result<SecretKey> read_watermark_key(const std::filesystem::path& path) {
  const std::string name = path.string();
  Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info {};
  if (fd.get() < 0 || ::fstat(fd.get(), &info) != 0)
    return failure(Errc::invalid,
                   "cannot open the watermark key " + name + ": " + std::strerror(errno) +
                       "; without the key that the picture was marked with, nothing restores it");
  if (!S_ISREG(info.st_mode))
    return failure(Errc::invalid, "the watermark key " + name + " is not a regular file");
  if ((info.st_mode & 077) != 0)
    return failure(Errc::invalid, "the watermark key " + name +
                                      " can be read by others than its owner; run: chmod 600 " +
                                      name);
  std::string text(kFileBytesMax, '\0');
  size_t filled = 0;
  while (filled < text.size()) {
    const ssize_t n = ::read(fd.get(), text.data() + filled, text.size() - filled);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failure(Error::posix(errno, "cannot read the watermark key " + name));
    if (n == 0) break;
    filled += static_cast<size_t>(n);
  }
  auto key = parse_watermark_key(std::string_view(text.data(), filled), name);
  OPENSSL_cleanse(text.data(), text.size());
  return key;
}

PictureKeys derive_picture_keys(const SecretKey& watermark_key, ByteView bound) {
  const std::string info = "datacloud watermark 1" + std::string(as_text(bound));
  Bytes keys = hkdf_sha256(watermark_key.view(), info, 3 * kKeyBytes);
  const ByteView all(keys);
  PictureKeys out{SecretKey(all.subspan(0, kKeyBytes)),
                  SecretKey(all.subspan(kKeyBytes, kKeyBytes)),
                  SecretKey(all.subspan(2 * kKeyBytes, kKeyBytes))};
  OPENSSL_cleanse(keys.data(), keys.size());
  return out;
}

}  // namespace datacloud::watermark
