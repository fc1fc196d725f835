// See site_credentials.h.
#include "common/store/remote/site_credentials.h"

#include "common/base/clock.h"
#include "common/config/node_certificate.h"
#include "common/crypto/keys.h"

namespace datacloud {
namespace {

constexpr int64_t kDayNs = 24ll * 3600 * kNsPerSecond;
constexpr int64_t kLifeNs = 30 * kDayNs;

result<CertificateAuthority> authority_of(const std::filesystem::path& service_key) {
  TRY(const auto key, read_key_file(service_key, KeyFileKind::service));
  return CertificateAuthority::derive(key.key, key.cloud_uuid);
}

TlsCredentials issue(const CertificateAuthority& authority, const std::string& name,
                     NodeRoles roles, int64_t life_ns) {
  TlsCredentials out;
  out.key = NodeKey::generate();
  out.authority = authority.certificate();
  out.certificate =
      authority.issue(out.key, {authority.cloud_uuid(), name, roles}, wall_now_ns(), life_ns).der;
  return out;
}

// `site`: whose server may show a certificate of the organisation's authority.
result<std::shared_ptr<const TlsContext>> made_context(const std::filesystem::path& service_key,
                                                       const SiteConfig& site) {
  TRY(const auto authority, authority_of(service_key));
  NodeRoles roles = NodeRole::daemon;  // no node ever has it
  roles.add(NodeRole::mount);
  roles.add(NodeRole::admin);
  TlsCredentials credentials = issue(authority, "daemon", roles, kLifeNs);
  if (!site.identity.empty()) {
    TRY(add_organisation(site.node, credentials.authority));
    credentials.identities = site.identity;
  }
  return TlsContext::make(TlsContext::Side::client, credentials);
}

}  // namespace

result<std::shared_ptr<const TlsContext>> site_client_context(const SiteConfig& site) {
  if (site.node.joined()) return node_context(site.node, site.identity);
  if (site.service_key.empty()) {
    return failure(Errc::invalid, "site " + site.name +
                                      " is served by another machine, and takes in nodes only: "
                                      "`datacloud join` makes this machine one");
  }
  return made_context(site.service_key, site);
}

result<std::shared_ptr<const TlsContext>> daemon_client_context(
    const std::filesystem::path& service_key) {
  return made_context(service_key, {});
}

result<SiteCertificate> SiteCertificate::open(const Config& config, const std::string& site) {
  SiteCertificate out;
  out.site_ = site;
  out.node_ = config.node;
  for (const auto& table : config.sites)
    if (table.name == site)
      out.files_ =
          std::make_unique<ServerCertificateFiles>(table.shown.certificate, table.shown.key);
  if (out.files_) {
    TRY(out.shown_, out.files_->get());
  }
  if (!config.node.joined()) {
    TRY(auto authority, authority_of(config.keys.service));
    out.cloud_uuid_ = authority.cloud_uuid();
    out.authority_ = std::make_shared<const CertificateAuthority>(std::move(authority));
    return out;
  }
  TRY(const auto certificate, read_certificate_file(config.node.certificate));
  TRY(const auto authority, read_certificate_file(config.node.authority));
  const auto own = judge_certificate(certificate, authority, CertificateUse::server, wall_now_ns());
  // A machine that its organisation has certified: the daemon knows it by its record, and clients
  // know the server by what it shows to those that ask.
  if (own.verdict == PeerCertificate::Verdict::foreign && out.shown_) {
    out.cloud_uuid_ = authority_cloud(authority);
    if (out.cloud_uuid_.empty())
      return failure(Errc::invalid,
                     config.node.authority.string() + " is no certificate of a cloud's authority");
    TRY(out.of_node());
    return out;
  }
  if (own.verdict != PeerCertificate::Verdict::good || !own.identity.roles.has(NodeRole::site) ||
      own.identity.name != site) {
    return failure(Errc::invalid,
                   config.node.certificate.string() + ": it must be in force for node " + site +
                       " with the role site, and is for node " + own.identity.name + " (" +
                       own.identity.roles.text() + ")" +
                       (own.problem.empty() ? "" : ", and " + own.problem) +
                       ": join as `datacloud node add " + site + " --role site` says");
  }
  out.cloud_uuid_ = own.identity.cloud_uuid;
  TRY(out.of_node());
  return out;
}

result<std::shared_ptr<const TlsContext>> SiteCertificate::of_node() const {
  TlsCredentials credentials;
  TRY(credentials.key, read_node_key_file(node_.key));
  TRY(credentials.certificate, read_certificate_file(node_.certificate));
  TRY(credentials.authority, read_certificate_file(node_.authority));
  credentials.organisation = shown_;
  return TlsContext::make(TlsContext::Side::server, credentials);
}

result<std::shared_ptr<const TlsContext>> SiteCertificate::context() {
  const auto before = shown_;
  if (files_) {
    TRY(shown_, files_->get());
  }
  if (!authority_) return of_node();
  // A clock that was set back makes a new one too: the old one may not be in force yet.
  const int64_t now = wall_now_ns();
  if (!made_ || shown_ != before || now > renew_at_ns_ || now < renew_at_ns_ - kLifeNs) {
    TlsCredentials credentials = issue(*authority_, site_, NodeRole::site, kLifeNs);
    credentials.organisation = shown_;
    TRY(made_, TlsContext::make(TlsContext::Side::server, credentials));
    renew_at_ns_ = now + kLifeNs / 3 * 2;
  }
  return made_;
}

}  // namespace datacloud
