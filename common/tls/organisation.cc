// Files and fingerprints of an organisation's certificates (organisation.h).
#include "common/tls/organisation.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cctype>
#include <cstdlib>

#include "common/base/hex.h"
#include "common/tls/certificate.h"
#include "common/tls/certificate_chain.h"
#include "common/tls/openssl_handles.h"

namespace datacloud {

Bytes certificate_fingerprint(ByteView der) {
  Bytes out(kFingerprintBytes);
  if (EVP_Digest(der.data(), der.size(), out.data(), nullptr, EVP_sha256(), nullptr) != 1)
    std::abort();
  return out;
}

namespace {

Error not_one(const std::string& text) {
  return Error(Errc::invalid,
               "\"" + text.substr(0, 120) +
                   "\" is no SHA-256 fingerprint: `openssl x509 -noout -fingerprint -sha256 -in "
                   "FILE` prints one");
}

}  // namespace

result<Bytes> parse_fingerprint(const std::string& text) {
  std::string digits;
  for (const char c : text.substr(text.rfind('=') + 1)) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isxdigit(byte) != 0)
      digits += static_cast<char>(std::tolower(byte));
    else if (c != ':' && std::isspace(byte) == 0)
      return failure(not_one(text));
  }
  Bytes out(kFingerprintBytes);
  if (digits.size() == 2 * kFingerprintBytes && from_hex(digits, out)) return out;
  return failure(not_one(text));
}

result<Bytes> read_authorities_file(const std::filesystem::path& path) {
  const auto refuse = [&](const std::string& what) {
    return failure(Errc::invalid, path.string() + " " + what);
  };
  const BioPtr file(BIO_new_file(path.c_str(), "r"));
  if (!file) {
    ERR_clear_error();
    return refuse("cannot be opened: it is to hold the certificates of your authorities, PEM");
  }
  Bytes out;
  size_t count = 0;
  for (;; ++count) {
    const X509Ptr certificate(PEM_read_bio_X509(file.get(), nullptr, nullptr, nullptr));
    if (!certificate) break;
    if (count == kOrganisationAuthoritiesMax)
      return refuse(fmt::format("holds more than {} certificates", kOrganisationAuthoritiesMax));
    if (X509_check_ca(certificate.get()) != 1)
      return refuse(
          fmt::format("holds a certificate, number {}, that may not sign others (CA:TRUE "
                      "is missing)",
                      count + 1));
    uint8_t* der = nullptr;
    const int size = i2d_X509(certificate.get(), &der);
    if (size <= 0 || static_cast<size_t>(size) > kCertificateBytesMax)
      return refuse(fmt::format("holds a certificate, number {}, that is too long", count + 1));
    out.insert(out.end(), der, der + size);
    OPENSSL_free(der);
  }
  ERR_clear_error();
  if (count == 0) return refuse("holds no certificate (PEM)");
  return out;
}

std::vector<Bytes> split_certificates(ByteView der) {
  std::vector<Bytes> out;
  for (const auto& certificate : parse_authorities(der))
    out.push_back(der_of_certificate(certificate.get()));
  return out;
}

}  // namespace datacloud
