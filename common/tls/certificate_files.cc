// PEM and files of keys and certificates (certificate.h).
#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/pem.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "common/tls/certificate.h"
#include "common/tls/openssl_handles.h"

namespace datacloud {
namespace {

constexpr size_t kFileBytesMax = 16 << 10;

std::string text_of(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return size > 0 ? std::string(data, static_cast<size_t>(size)) : std::string();
}

// Never asks at a terminal: our files have no passphrase.
int no_passphrase(char*, int, int, void*) { return -1; }

constexpr const char* kMadeByJoin = "; `datacloud join` makes it";

result<std::string> read_small_file(const std::filesystem::path& path, const char* what,
                                    bool secret, const char* remedy = kMadeByJoin) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat info {};
  if (fd < 0 || ::fstat(fd, &info) != 0) {
    const int error = errno;
    if (fd >= 0) ::close(fd);
    return failure(Errc::invalid, fmt::format("cannot open the {} {}: {}{}", what, path.string(),
                                              std::strerror(error), remedy));
  }
  std::string text(kFileBytesMax + 1, '\0');
  const ssize_t got = ::read(fd, text.data(), text.size());
  ::close(fd);
  if (!S_ISREG(info.st_mode) || got < 0 || static_cast<size_t>(got) > kFileBytesMax)
    return failure(Errc::invalid, fmt::format("{} cannot be read as a {}", path.string(), what));
  if (secret && (info.st_mode & 077) != 0) {
    OPENSSL_cleanse(text.data(), text.size());
    return failure(Errc::invalid, fmt::format("the {} {} can be read by others than its owner; "
                                              "run: chmod 600 {}",
                                              what, path.string(), path.string()));
  }
  text.resize(static_cast<size_t>(got));
  return text;
}

}  // namespace

std::string NodeKey::pem() const {
  const BioPtr bio(BIO_new(BIO_s_secmem()));
  if (!bio || PEM_write_bio_PKCS8PrivateKey(bio.get(), key_.get(), nullptr, nullptr, 0, nullptr,
                                            nullptr) != 1) {
    std::abort();
  }
  return text_of(bio.get());
}

result<NodeKey> NodeKey::parse_pem(const std::string& text, const std::string& name) {
  const BioPtr bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  if (!bio) std::abort();
  EVP_PKEY* key = PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr);
  if (key != nullptr) return NodeKey(key);
  return failure(Errc::invalid, name +
                                    " holds no private key; revoke the node and let it join "
                                    "again");
}

std::string certificate_pem(ByteView der) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  if (!bio || PEM_write_bio(bio.get(), PEM_STRING_X509, "", der.data(),
                            static_cast<long>(der.size())) <= 0) {
    std::abort();
  }
  return text_of(bio.get());
}

result<Bytes> read_certificate_file(const std::filesystem::path& path) {
  TRY(const auto text, read_small_file(path, "certificate", false));
  const BioPtr bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  if (!bio) std::abort();
  const X509Ptr certificate(PEM_read_bio_X509(bio.get(), nullptr, no_passphrase, nullptr));
  uint8_t* der = nullptr;
  const int size = certificate ? i2d_X509(certificate.get(), &der) : 0;
  if (size <= 0)
    return failure(Errc::invalid, path.string() +
                                      " holds no certificate; revoke the node and let "
                                      "it join again");
  Bytes out(der, der + size);
  OPENSSL_free(der);
  return out;
}

result<NodeKey> read_node_key_file(const std::filesystem::path& path) {
  TRY(auto text, read_small_file(path, "node's key", true));
  auto key = NodeKey::parse_pem(text, path.string());
  OPENSSL_cleanse(text.data(), text.size());
  return key;
}

result<NodeKey> read_server_key_file(const std::filesystem::path& path) {
  TRY(auto text, read_small_file(path, "server's key", true, ""));
  const BioPtr bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  if (!bio) std::abort();
  EVP_PKEY* key = PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr);
  OPENSSL_cleanse(text.data(), text.size());
  if (key != nullptr) return NodeKey(key);
  return failure(Errc::invalid, path.string() + " holds no private key without a passphrase (PEM)");
}

}  // namespace datacloud
