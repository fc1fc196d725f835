#include "daemon/program/daemon_certificate.h"

#include "common/base/check.h"
#include "common/base/clock.h"

namespace datacloud {
namespace {

constexpr int64_t kLifeNs = 30ll * 24 * 3600 * kNsPerSecond;

}  // namespace

DaemonCertificate::DaemonCertificate(std::shared_ptr<const CertificateAuthority> authority,
                                     Bytes organisation, ServerCertificateFiles shown)
    : authority_(std::move(authority)),
      organisation_(std::move(organisation)),
      files_(std::move(shown)) {
  (void)context();
}

std::shared_ptr<const TlsContext> DaemonCertificate::context() {
  // A clock that was set back makes a new one too: the old one may not be in force yet.
  const int64_t now = wall_now_ns();
  const auto before = shown_;
  if (auto shown = files_.get()) shown_ = std::move(shown).value();
  if (!context_ || shown_ != before || now > renew_at_ns_ || now < renew_at_ns_ - kLifeNs)
    renew(now);
  return context_;
}

void DaemonCertificate::renew(int64_t now_ns) {
  TlsCredentials credentials;
  credentials.key = NodeKey::generate();
  credentials.authority = authority_->certificate();
  credentials.authority.insert(credentials.authority.end(), organisation_.begin(),
                               organisation_.end());
  credentials.certificate =
      authority_
          ->issue(credentials.key, {authority_->cloud_uuid(), "daemon", NodeRole::daemon}, now_ns,
                  kLifeNs)
          .der;
  credentials.organisation = shown_;
  auto made = TlsContext::make(TlsContext::Side::server, credentials);
  DC_CHECK(made.has_value(), "a key and its certificate fit together");
  context_ = std::move(made).value();
  renew_at_ns_ = now_ns + kLifeNs / 3 * 2;
}

}  // namespace datacloud
