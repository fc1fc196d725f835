// Certificates of servers that an organisation has signed: files, identities
// (server_certificate.h).
#include "common/tls/server_certificate.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <cstdlib>
#include <utility>

#include "common/base/clock.h"
#include "common/base/hex.h"
#include "common/base/log.h"
#include "common/tls/certificate_chain.h"
#include "common/tls/openssl_handles.h"
#include "common/tls/organisation.h"

namespace datacloud {
namespace {

constexpr std::string_view kDns = "dns:", kSha256 = "sha256:";
constexpr size_t kIdentityBytesMax = 512;
constexpr size_t kChainMax = 4;

using NamesPtr = std::unique_ptr<GENERAL_NAMES, OpenSslFree<GENERAL_NAMES_free>>;

// The certificate's alternative names of that type.
std::vector<std::string> alternative_names(const X509* certificate, int type) {
  std::vector<std::string> out;
  const NamesPtr names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != type) continue;
    const ASN1_IA5STRING* text =
        type == GEN_URI ? name->d.uniformResourceIdentifier : name->d.dNSName;
    out.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                     static_cast<size_t>(ASN1_STRING_length(text)));
  }
  return out;
}

bool has_identity(X509* certificate, const std::string& identity) {
  if (identity.starts_with(kSha256)) {
    const auto wanted = parse_fingerprint(identity.substr(kSha256.size()));
    return wanted && wanted.value() == certificate_fingerprint(der_of_certificate(certificate));
  }
  if (identity.starts_with(kDns)) {
    const std::string name = identity.substr(kDns.size());
    return X509_check_host(
               certificate, name.data(), name.size(),
               X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS,
               nullptr) == 1;
  }
  for (const auto& uri : alternative_names(certificate, GEN_URI))
    if (uri == identity) return true;
  return false;
}

// What a certificate says of itself, for people.
std::string described(X509* certificate) {
  std::string out = subject_of_certificate(certificate);
  for (const auto& uri : alternative_names(certificate, GEN_URI)) out += ", " + uri;
  for (const auto& name : alternative_names(certificate, GEN_DNS))
    out += fmt::format(", dns:{}", name);
  return out.substr(0, 512) +
         ", sha256:" + to_hex(certificate_fingerprint(der_of_certificate(certificate)));
}

void free_names(STACK_OF(X509_NAME) * names) { sk_X509_NAME_pop_free(names, X509_NAME_free); }

}  // namespace

result<void> check_server_identity(const std::string& identity) {
  const auto refuse = [&](const char* what) {
    return failure(
        Errc::invalid,
        fmt::format("\"{}\" {}; write a URI of the server's certificate, \"dns:NAME\" or "
                    "\"sha256:DIGITS\"",
                    identity.substr(0, 100), what));
  };
  if (identity.size() > kIdentityBytesMax) return refuse("is too long");
  if (identity.starts_with(kSha256)) {
    TRY(parse_fingerprint(identity.substr(kSha256.size())));
    return success();
  }
  if (identity.starts_with(kDns)) {
    const std::string name = identity.substr(kDns.size());
    if (name.empty() || name.find_first_of("*: /") != std::string::npos)
      return refuse("names no host");
    return success();
  }
  if (identity.find(':') == std::string::npos || identity.starts_with(':'))
    return refuse("is no identity of a server");
  return success();
}

ServerCertificate::~ServerCertificate() {
  X509_free(certificate_);
  sk_X509_pop_free(chain_, X509_free);
}

result<std::shared_ptr<const ServerCertificate>> ServerCertificate::read(
    const std::filesystem::path& certificate, const std::filesystem::path& key) {
  const auto refuse = [&](const std::string& what) {
    ERR_clear_error();
    return failure(Errc::invalid, certificate.string() + " " + what);
  };
  std::shared_ptr<ServerCertificate> out(new ServerCertificate);
  TRY(out->key_, read_server_key_file(key));
  const BioPtr file(BIO_new_file(certificate.c_str(), "r"));
  if (!file) return refuse("cannot be opened: it is to hold the server's certificate, PEM");
  out->certificate_ = PEM_read_bio_X509(file.get(), nullptr, nullptr, nullptr);
  if (out->certificate_ == nullptr) return refuse("holds no certificate (PEM)");
  out->chain_ = sk_X509_new_null();
  if (out->chain_ == nullptr) std::abort();
  while (X509* next = PEM_read_bio_X509(file.get(), nullptr, nullptr, nullptr)) {
    if (sk_X509_push(out->chain_, next) <= 0) std::abort();
    if (static_cast<size_t>(sk_X509_num(out->chain_)) > kChainMax)
      return refuse(fmt::format("holds more than {} certificates behind the server's", kChainMax));
  }
  ERR_clear_error();
  if (X509_check_private_key(out->certificate_, out->key_.native()) != 1)
    return refuse("is for another key than that of " + key.string());
  if (X509_check_purpose(out->certificate_, X509_PURPOSE_SSL_SERVER, 0) != 1)
    return refuse("is not for servers (extendedKeyUsage = serverAuth is missing)");
  return std::shared_ptr<const ServerCertificate>(std::move(out));
}

std::string ServerCertificate::identity() const {
  for (const auto& uri : alternative_names(certificate_, GEN_URI))
    if (check_server_identity(uri)) return uri;
  for (const auto& name : alternative_names(certificate_, GEN_DNS))
    if (check_server_identity(std::string(kDns) + name)) return std::string(kDns) + name;
  return std::string(kSha256) + to_hex(certificate_fingerprint(der_of_certificate(certificate_)));
}

int64_t ServerCertificate::not_after_ns() const {
  return certificate_time_ns(X509_get0_notAfter(certificate_));
}

bool ServerCertificate::is_asked_for(const stack_st_X509_NAME* authorities) const {
  const auto signed_by = [&](const X509_NAME* name) {
    if (X509_NAME_cmp(X509_get_issuer_name(certificate_), name) == 0) return true;
    for (int i = 0; i < sk_X509_num(chain_); ++i) {
      if (X509_NAME_cmp(X509_get_issuer_name(sk_X509_value(chain_, i)), name) == 0) return true;
    }
    return false;
  };
  for (int i = 0; authorities != nullptr && i < sk_X509_NAME_num(authorities); ++i)
    if (signed_by(sk_X509_NAME_value(authorities, i))) return true;
  return false;
}

ServerCertificateFiles::ServerCertificateFiles(std::filesystem::path certificate,
                                               std::filesystem::path key)
    : certificate_(std::move(certificate)), key_(std::move(key)) {}

ServerCertificateFiles::Stamp ServerCertificateFiles::stamp() const {
  struct stat certificate {
  }, key{};
  Stamp out;
  if (::stat(certificate_.c_str(), &certificate) == 0) {
    out.certificate_ns = wall_ns(certificate.st_ctim);
    out.certificate_ino = certificate.st_ino;
  }
  if (::stat(key_.c_str(), &key) == 0) {
    out.key_ns = wall_ns(key.st_ctim);
    out.key_ino = key.st_ino;
  }
  return out;
}

result<std::shared_ptr<const ServerCertificate>> ServerCertificateFiles::get() {
  if (certificate_.empty()) return std::shared_ptr<const ServerCertificate>();
  const Stamp now = stamp();  // before reading: what changes meanwhile is read next time
  if (last_ && seen_ == now) return last_;
  auto read = ServerCertificate::read(certificate_, key_);
  if (!read && !last_) return failure(read.error());
  seen_ = now;
  if (!read) {
    spdlog::warn("{}; the certificate that was there before is shown on", read.error().text());
    return last_;
  }
  last_ = std::move(read).value();
  if (last_->not_after_ns() < wall_now_ns())
    spdlog::warn("{} has expired: renew it; it is read again when it changes",
                 certificate_.string());
  else
    spdlog::info("nodes that ask for it are shown {}: {}", certificate_.string(),
                 last_->identity());
  return last_;
}

PeerCertificate judge_server(x509_st* shown, stack_st_X509* chain, ByteView authorities,
                             const std::vector<std::string>& identities, int64_t now_ns) {
  using Verdict = PeerCertificate::Verdict;
  PeerCertificate peer = judge_certificate(shown, authorities, CertificateUse::server, now_ns);
  if (peer.verdict != Verdict::foreign || identities.empty()) return peer;
  const auto all = parse_authorities(authorities);
  const auto organisation = std::span<const X509Ptr>(all).subspan(1);
  if (organisation.empty()) return peer;
  auto [verdict, problem] =
      verify_certificate(shown, organisation, chain, CertificateUse::server, now_ns);
  peer.verdict = verdict;
  peer.identity = NodeIdentity{"", subject_of_certificate(shown), {}};
  const std::string what = " (" + described(shown) + ")";
  if (verdict == Verdict::foreign) {
    peer.problem =
        "is signed neither by this cloud's authority nor by one of those in the file that "
        "`authorities` names" +
        what;
  } else if (verdict != Verdict::good) {
    peer.problem = std::move(problem) + what;
  } else {
    for (const auto& identity : identities) {
      if (!has_identity(shown, identity)) continue;
      peer.named = true;
      peer.problem.clear();
      return peer;
    }
    peer.verdict = Verdict::unfit;
    peer.problem = fmt::format(
        "is one of the organisation's, and not of {}{}: correct the identity "
        "in the configuration, or the address",
        fmt::join(identities, " or "), what);
  }
  return peer;
}

stack_st_X509_NAME* names_of_organisation(ByteView authorities) {
  const auto all = parse_authorities(authorities);
  STACK_OF(X509_NAME)* names = sk_X509_NAME_new_null();
  if (names == nullptr) std::abort();
  for (size_t i = 1; i < all.size(); ++i) {
    X509_NAME* name = X509_NAME_dup(X509_get_subject_name(all[i].get()));
    if (name == nullptr || sk_X509_NAME_push(names, name) <= 0) {
      free_names(names);
      std::abort();
    }
  }
  return names;
}

}  // namespace datacloud
