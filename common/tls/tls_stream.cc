// Over OpenSSL, with a BIO of our own: its socket BIO would raise SIGPIPE.
#include "common/tls/tls_stream.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "common/tls/openssl_handles.h"

namespace datacloud {
namespace {

constexpr size_t kRecordBytesMax = 16384;      // RFC 8446, 5.1
constexpr long kPeerChainBytesMax = 16 << 10;  // of certificates a peer may send
constexpr uint8_t kProtocol[] =
    "\x0b"
    "datacloud/1";  // ALPN (RFC 7301): length, name
constexpr size_t kProtocolBytes = sizeof kProtocol - 1;

int fd_of(BIO* bio) { return static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio))); }

int bio_write(BIO* bio, const char* data, int size) {
  BIO_clear_retry_flags(bio);
  const ssize_t sent =
      ::send(fd_of(bio), data, static_cast<size_t>(size), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
    BIO_set_retry_write(bio);
  return static_cast<int>(sent);
}

int bio_read(BIO* bio, char* data, int size) {
  BIO_clear_retry_flags(bio);
  const ssize_t got = ::recv(fd_of(bio), data, static_cast<size_t>(size), MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
    BIO_set_retry_read(bio);
  return static_cast<int>(got);
}

long bio_control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

BIO_METHOD* socket_method() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "datacloud socket");
    if (m == nullptr || BIO_meth_set_write(m, bio_write) != 1 ||
        BIO_meth_set_read(m, bio_read) != 1 || BIO_meth_set_ctrl(m, bio_control) != 1) {
      std::abort();
    }
    return m;
  }();
  return method;
}

// Why the last call failed, for people.
std::string reason() {
  const unsigned long code = ERR_peek_error();
  const char* text = code != 0 ? ERR_reason_error_string(code) : nullptr;
  ERR_clear_error();
  return text != nullptr ? text : "the peer has closed the connection";
}

int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_length,
                    const unsigned char* offered, unsigned int length, void*) {
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_length, kProtocol, kProtocolBytes, offered, length) !=
      OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

// Certificates are judged after the handshake, by the stream's owner.
int accept_any(X509_STORE_CTX*, void*) { return 1; }

}  // namespace

TlsContext::~TlsContext() { SSL_CTX_free(context_); }

result<std::shared_ptr<const TlsContext>> TlsContext::make(Side side,
                                                           const TlsCredentials& credentials) {
  std::shared_ptr<TlsContext> made(new TlsContext(side, credentials.authority));
  made->context_ = SSL_CTX_new(side == Side::server ? TLS_server_method() : TLS_client_method());
  SSL_CTX* ctx = made->context_;
  if (ctx == nullptr || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1) std::abort();
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(ctx, 0);
  SSL_CTX_set_max_cert_list(ctx, kPeerChainBytesMax);
  SSL_CTX_set_read_ahead(ctx, 1);
  SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_cert_verify_callback(ctx, accept_any, nullptr);
  if (side == Side::server) {
    SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, nullptr);
  } else if (SSL_CTX_set_alpn_protos(ctx, kProtocol, kProtocolBytes) != 0) {
    std::abort();
  }
  const auto unfit = [] {
    const std::string why = reason();
    return failure(Errc::invalid, "the certificate and the key do not fit together: " + why);
  };
  ERR_clear_error();
  if (SSL_CTX_use_certificate_ASN1(ctx, static_cast<int>(credentials.certificate.size()),
                                   credentials.certificate.data()) != 1 ||
      SSL_CTX_use_PrivateKey(ctx, credentials.key.native()) != 1 ||
      SSL_CTX_check_private_key(ctx) != 1) {
    return unfit();
  }
  // A joining node knows the authority by its fingerprint only.
  if (side == Side::server) {
    const uint8_t* at = credentials.authority.data();
    const X509Ptr authority(
        d2i_X509(nullptr, &at, static_cast<long>(credentials.authority.size())));
    if (!authority || SSL_CTX_add1_chain_cert(ctx, authority.get()) != 1) return unfit();
  }
  return std::shared_ptr<const TlsContext>(std::move(made));
}

TlsStream::TlsStream(int fd, std::shared_ptr<const TlsContext> context)
    : fd_(fd), context_(std::move(context)), ssl_(SSL_new(context_->native())) {
  BIO* bio = BIO_new(socket_method());
  if (ssl_ == nullptr || bio == nullptr) std::abort();
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<intptr_t>(fd_)));
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_, bio, bio);
  if (context_->side() == TlsContext::Side::server)
    SSL_set_accept_state(ssl_);
  else
    SSL_set_connect_state(ssl_);
}

TlsStream::~TlsStream() {
  SSL_free(ssl_);
  ::close(fd_);
}

result<bool> TlsStream::handshake() {
  std::lock_guard lock(mutex_);
  ERR_clear_error();
  const int done = SSL_do_handshake(ssl_);
  if (done == 1) {
    waits_for_room_ = false;
    const unsigned char* protocol = nullptr;
    unsigned length = 0;
    SSL_get0_alpn_selected(ssl_, &protocol, &length);
    if (length + 1 == kProtocolBytes) return true;
    return failure(Errc::invalid, "the TLS handshake failed: the peer speaks another protocol");
  }
  const int error = SSL_get_error(ssl_, done);
  waits_for_room_ = error == SSL_ERROR_WANT_WRITE;
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return false;
  return failure(Errc::invalid, "the TLS handshake failed: " + reason());
}

PeerCertificate TlsStream::peer(int64_t now_ns) const {
  return peer_by(context_->authority(), now_ns);
}

PeerCertificate TlsStream::peer_by(ByteView authority, int64_t now_ns) const {
  std::lock_guard lock(mutex_);
  const auto use = context_->side() == TlsContext::Side::server ? CertificateUse::client
                                                                : CertificateUse::server;
  return judge_certificate(SSL_get0_peer_certificate(ssl_), authority, use, now_ns);
}

Bytes TlsStream::authority_shown() const {
  std::lock_guard lock(mutex_);
  STACK_OF(X509)* chain = SSL_get_peer_cert_chain(ssl_);
  if (chain == nullptr || sk_X509_num(chain) < 2) return {};
  uint8_t* der = nullptr;
  const int size = i2d_X509(sk_X509_value(chain, 1), &der);
  if (size <= 0) return {};
  Bytes out(der, der + size);
  OPENSSL_free(der);
  return out;
}

ByteStream::Received TlsStream::receive(MutableByteView space) {
  std::lock_guard lock(mutex_);
  ERR_clear_error();
  size_t got = 0;
  const int done = SSL_read_ex(ssl_, space.data(), space.size(), &got);
  if (done == 1) {
    waits_for_room_ = false;
    return {State::done, got, true};  // OpenSSL may hold more than it has given
  }
  const int error = SSL_get_error(ssl_, done);
  ERR_clear_error();
  waits_for_room_ = error == SSL_ERROR_WANT_WRITE;
  const bool later = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
  return {later ? State::blocked : State::broken, 0, false};
}

// At most one record a round. What was refused is offered again as it was, or with more behind it:
// then OpenSSL goes on with the record that it has begun.
ByteStream::Sent TlsStream::send(std::span<const iovec> parts) {
  std::lock_guard lock(mutex_);
  ByteView record;
  const auto view = [](const iovec& part) {
    return ByteView(static_cast<const uint8_t*>(part.iov_base), part.iov_len);
  };
  if (parts.empty()) return {State::done, 0};
  if (parts.size() == 1 || parts[0].iov_len >= kRecordBytesMax) {
    record = view(parts[0]);
    record = record.first(std::min(record.size(), kRecordBytesMax));
  } else {
    gathered_.clear();
    for (const auto& part : parts) {
      const ByteView bytes = view(part);
      const size_t taken = std::min(bytes.size(), kRecordBytesMax - gathered_.size());
      gathered_.insert(gathered_.end(), bytes.begin(), bytes.begin() + taken);
      if (gathered_.size() == kRecordBytesMax) break;
    }
    record = gathered_;
  }
  ERR_clear_error();
  size_t sent = 0;
  const int done = SSL_write_ex(ssl_, record.data(), record.size(), &sent);
  if (done == 1) return {State::done, sent};
  const int error = SSL_get_error(ssl_, done);
  ERR_clear_error();
  const bool later = error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ;
  return {later ? State::blocked : State::broken, 0};
}

void TlsStream::finish_sending() {
  std::lock_guard lock(mutex_);
  ERR_clear_error();
  (void)SSL_shutdown(ssl_);
  ERR_clear_error();
  ::shutdown(fd_, SHUT_WR);
}

}  // namespace datacloud
