// A node's certificate: shown, renewed, replaced (node_certificate.h).
#include "common/config/node_certificate.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "common/base/clock.h"
#include "common/tls/organisation.h"

namespace datacloud {

void set_daemon(const Config& config, RpcClient::Options& options) {
  options.addresses = config.daemon_addresses();
  if (config.node.joined()) {
    options.tls = [node = config.node] { return node_context(node, node.daemon_identity); };
  }
}

result<void> add_organisation(const NodeConfig& node, Bytes& authorities) {
  if (node.organisation.empty()) return success();
  TRY(const auto more, read_authorities_file(node.organisation));
  authorities.insert(authorities.end(), more.begin(), more.end());
  return success();
}

result<std::shared_ptr<const TlsContext>> node_context(const NodeConfig& node,
                                                       const std::vector<std::string>& identities) {
  TlsCredentials credentials;
  TRY(credentials.key, read_node_key_file(node.key));
  TRY(credentials.certificate, read_certificate_file(node.certificate));
  TRY(credentials.authority, read_certificate_file(node.authority));
  if (!identities.empty()) {
    TRY(add_organisation(node, credentials.authority));
    credentials.identities = identities;
  }
  auto context = TlsContext::make(TlsContext::Side::client, credentials);
  if (!context) return failure(context.error().in(node.certificate.string()));
  return context;
}

bool renewal_is_due(const NodeConfig& node) {
  if (!node.joined()) return false;
  const auto certificate = read_certificate_file(node.certificate);
  const auto authority = read_certificate_file(node.authority);
  if (!certificate || !authority) return false;
  const int64_t now = wall_now_ns();
  const auto own =
      judge_certificate(certificate.value(), authority.value(), CertificateUse::client, now);
  const int64_t life = own.not_after_ns - own.not_before_ns;
  return own.verdict == PeerCertificate::Verdict::good && now > own.not_before_ns + life / 3 * 2;
}

result<int64_t> renew_node_certificate(const NodeConfig& node, RpcClient& client) {
  TRY(const auto key, read_node_key_file(node.key));
  TRY(const auto authority, read_certificate_file(node.authority));
  pb::Request request;
  const Bytes wanted = make_certificate_request(key);
  request.mutable_renew()->set_request(std::string(as_text(wanted)));
  TRY(const auto reply, client.call(std::move(request)));
  const ByteView renewed = as_bytes(reply.certificate().certificate());
  const auto judged = judge_certificate(renewed, authority, CertificateUse::client, wall_now_ns());
  if (judged.verdict != PeerCertificate::Verdict::good || judged.key_hash != key.hash()) {
    return failure(Errc::corrupt, "the daemon has sent a certificate that this node cannot use: " +
                                      judged.problem);
  }
  TRY(replace_file(node.certificate, certificate_pem(renewed)));
  return judged.not_after_ns;
}

result<void> replace_file(const std::filesystem::path& path, std::string_view text) {
  const std::string temporary = path.string() + "." + std::to_string(::getpid()) + ".tmp";
  const auto failed = [&](int fd) {
    const int error = errno;
    if (fd >= 0) ::close(fd);
    ::unlink(temporary.c_str());
    return failure(Error::posix(error, "cannot write " + path.string()));
  };
  ::unlink(temporary.c_str());
  const int fd =
      ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0 || ::fchmod(fd, 0600) != 0) return failed(fd);
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed(fd);
    text.remove_prefix(static_cast<size_t>(n));
  }
  if (::fsync(fd) != 0) return failed(fd);
  ::close(fd);
  if (::rename(temporary.c_str(), path.c_str()) != 0) return failed(-1);
  const int directory = ::open(path.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0 || ::fsync(directory) != 0) return failed(directory);
  ::close(directory);
  return success();
}

}  // namespace datacloud
