// What a machine shows to the server of a site, and what that server shows.
#pragma once

#include <memory>

#include "common/config/config.h"
#include "common/tls/server_certificate.h"
#include "common/tls/tls_stream.h"

namespace datacloud {

// Of a machine that has joined, its certificate; of the daemon's, one that the service key makes
// for this connection. invalid: there is neither, or a file is not good.
result<std::shared_ptr<const TlsContext>> site_client_context(const SiteConfig&);
// What a program of the daemon's machine shows elsewhere: made with the service key for the
// occasion.
result<std::shared_ptr<const TlsContext>> daemon_client_context(
    const std::filesystem::path& service_key);

// The certificate of a site's server: of a machine that has joined with the role site, under the
// site's name, its own, read again at each connection; else made by the service key, and renewed at
// two thirds of its life. Clients that ask for it are shown the organisation's.
//
// One thread at a time.
class SiteCertificate {
 public:
  // invalid: the files are not good, or not of that site.
  static result<SiteCertificate> open(const Config&, const std::string& site);
  const std::string& cloud_uuid() const { return cloud_uuid_; }
  result<std::shared_ptr<const TlsContext>> context();

 private:
  SiteCertificate() = default;
  result<std::shared_ptr<const TlsContext>> of_node() const;

  std::string site_, cloud_uuid_;
  NodeConfig node_;
  std::shared_ptr<const CertificateAuthority> authority_;  // with the service key
  std::shared_ptr<const TlsContext> made_;
  std::unique_ptr<ServerCertificateFiles> files_;  // of the organisation's; null: no such site
  std::shared_ptr<const ServerCertificate> shown_;
  int64_t renew_at_ns_ = 0;
};

}  // namespace datacloud
