// Over OpenSSL, with a BIO of our own, which gathers records; the socket BIO would also raise
// SIGPIPE.
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

constexpr size_t kRecordBytesMax = 16384;  // RFC 8446, 5.1
// Of that bound: what stays in the nearest caches while it is encrypted and copied.
constexpr size_t kGatheredBytes = 64u << 10;
static_assert(kGatheredBytes <= kTlsGatheredBytes);
constexpr size_t kRecordOverheadMax = 512;     // header, tag, and room to spare
constexpr size_t kIdleBytes = 32 << 10;        // kept by a connection that has sent everything
constexpr long kPeerChainBytesMax = 16 << 10;  // of certificates a peer may send
constexpr uint8_t kProtocol[] =
    "\x0b"
    "datacloud/1";  // ALPN (RFC 7301): length, name
constexpr size_t kProtocolBytes = sizeof kProtocol - 1;

// Why the last call failed, for people.
std::string reason() {
  const unsigned long code = ERR_peek_error();
  if (ERR_GET_LIB(code) == ERR_LIB_SSL &&
      ERR_GET_REASON(code) == SSL_R_TLSV1_ALERT_USER_CANCELLED) {
    ERR_clear_error();
    return "too many handshakes from this address are under way there; try again";
  }
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

// Memory for the records of these parts, or of the first of them.
size_t room_for(std::span<const iovec> parts) {
  size_t bytes = kRecordOverheadMax;
  for (const auto& part : parts) bytes += part.iov_len + part.iov_len / kRecordBytesMax * 32;
  return std::min(bytes, kGatheredBytes);
}

// Certificates are judged after the handshake, by the stream's owner.
int accept_any(X509_STORE_CTX*, void*) { return 1; }

// The organisation's certificate, when the client has named one of its authorities. 0 would end the
// handshake.
int choose_certificate(SSL* ssl, void* context) {
  const auto& shown = *static_cast<const TlsContext*>(context)->organisation();
  if (!shown.is_asked_for(SSL_get0_peer_CA_list(ssl))) return 1;
  return SSL_use_cert_and_key(ssl, shown.certificate(), shown.key().native(), shown.chain(), 1);
}

}  // namespace

// What OpenSSL calls to move bytes; within calls of the stream, under its lock.
struct TlsBio {
  static TlsStream& stream_of(BIO* bio) { return *static_cast<TlsStream*>(BIO_get_data(bio)); }
  static int write(BIO* bio, const char* data, int size) {
    BIO_clear_retry_flags(bio);
    const int taken = stream_of(bio).take_out(
        {reinterpret_cast<const uint8_t*>(data), static_cast<size_t>(size)});
    if (taken < 0) BIO_set_retry_write(bio);
    return taken;
  }
  static int read(BIO* bio, char* data, int size) {
    BIO_clear_retry_flags(bio);
    const int got =
        stream_of(bio).bring_in({reinterpret_cast<uint8_t*>(data), static_cast<size_t>(size)});
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
      BIO_set_retry_read(bio);
    return got;
  }
  static long control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }
  static BIO_METHOD* method() {
    static BIO_METHOD* const method = [] {
      BIO_METHOD* m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "datacloud socket");
      if (m == nullptr || BIO_meth_set_write(m, write) != 1 || BIO_meth_set_read(m, read) != 1 ||
          BIO_meth_set_ctrl(m, control) != 1) {
        std::abort();
      }
      return m;
    }();
    return method;
  }
};

TlsContext::~TlsContext() { SSL_CTX_free(context_); }

result<std::shared_ptr<const TlsContext>> TlsContext::make(Side side,
                                                           const TlsCredentials& credentials) {
  std::shared_ptr<TlsContext> made(new TlsContext(side, credentials));
  made->context_ = SSL_CTX_new(side == Side::server ? TLS_server_method() : TLS_client_method());
  SSL_CTX* ctx = made->context_;
  if (ctx == nullptr || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1) std::abort();
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(ctx, 0);
  SSL_CTX_set_max_cert_list(ctx, kPeerChainBytesMax);
  SSL_CTX_set_read_ahead(ctx, 1);
  SSL_CTX_set_default_read_buffer_len(ctx, kGatheredBytes);
  SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                            SSL_MODE_RELEASE_BUFFERS);
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
    if (credentials.organisation) SSL_CTX_set_cert_cb(ctx, choose_certificate, made.get());
  } else if (!credentials.identities.empty()) {
    SSL_CTX_set0_CA_list(ctx, names_of_organisation(credentials.authority));
  }
  return std::shared_ptr<const TlsContext>(std::move(made));
}

TlsStream::TlsStream(int fd, std::shared_ptr<const TlsContext> context)
    : fd_(fd), context_(std::move(context)), ssl_(SSL_new(context_->native())) {
  BIO* bio = BIO_new(TlsBio::method());
  if (ssl_ == nullptr || bio == nullptr) std::abort();
  BIO_set_data(bio, this);
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
  const bool out = send_out() != State::blocked;  // an alert too, when it has failed
  if (done == 1) {
    // What is held goes out with what is sent next; of a client that is its certificate.
    if (!out) {
      waits_for_room_ = true;
      return false;
    }
    waits_for_room_ = false;
    const unsigned char* protocol = nullptr;
    unsigned length = 0;
    SSL_get0_alpn_selected(ssl_, &protocol, &length);
    if (length + 1 == kProtocolBytes) return true;
    return failure(Errc::invalid, "the TLS handshake failed: the peer speaks another protocol");
  }
  const int error = SSL_get_error(ssl_, done);
  waits_for_room_ = error == SSL_ERROR_WANT_WRITE || !out;
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return false;
  return failure(Errc::invalid, "the TLS handshake failed: " + reason());
}

void refuse_handshake(int fd) {
  // RFC 8446, 6: an alert, of a record of TLS 1.2 as all before the ServerHello; fatal,
  // user_canceled.
  constexpr uint8_t alert[] = {21, 3, 3, 0, 2, 2, 90};
  (void)::send(fd, alert, sizeof alert, MSG_DONTWAIT | MSG_NOSIGNAL);
  ::shutdown(fd, SHUT_WR);
}

PeerCertificate TlsStream::peer(int64_t now_ns) const {
  if (context_->identities().empty()) return peer_by(context_->authority(), now_ns);
  std::lock_guard lock(mutex_);
  return judge_server(SSL_get0_peer_certificate(ssl_), SSL_get_peer_cert_chain(ssl_),
                      context_->authority(), context_->identities(), now_ns);
}

PeerCertificate TlsStream::peer_by(ByteView authority, int64_t now_ns) const {
  std::lock_guard lock(mutex_);
  const auto use = context_->side() == TlsContext::Side::server ? CertificateUse::client
                                                                : CertificateUse::server;
  return judge_certificate(SSL_get0_peer_certificate(ssl_), authority, use, now_ns);
}

PeerCertificate TlsStream::peer_pinned(int64_t now_ns) const {
  Bytes authorities = context_->authority();
  std::lock_guard lock(mutex_);
  X509* shown = SSL_get0_peer_certificate(ssl_);
  uint8_t* der = nullptr;
  const int size = shown != nullptr ? i2d_X509(shown, &der) : 0;
  if (size > 0) authorities.insert(authorities.end(), der, der + size);
  OPENSSL_free(der);
  return judge_certificate(shown, authorities, CertificateUse::client, now_ns);
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

bool TlsStream::greeted() const {
  std::lock_guard lock(mutex_);
  const OSSL_HANDSHAKE_STATE state = SSL_get_state(ssl_);
  return state != TLS_ST_BEFORE && state != TLS_ST_SR_CLNT_HELLO;
}

// --- bytes, under the lock -----------------------------------------------------------------------

int TlsStream::take_out(ByteView records) {
  if (out_.size() - out_sent_ > 2 * kTlsGatheredBytes) return -1;  // a peer that has us answer
  out_.insert(out_.end(), records.begin(), records.end());
  return static_cast<int>(records.size());
}

int TlsStream::bring_in(MutableByteView space) {
  const ssize_t got = ::recv(fd_, space.data(), space.size(), MSG_DONTWAIT);
  drained_ = got < static_cast<ssize_t>(space.size());
  return static_cast<int>(got);
}

ByteStream::State TlsStream::send_out() {
  while (out_sent_ < out_.size()) {
    const ssize_t sent =
        ::send(fd_, out_.data() + out_sent_, out_.size() - out_sent_, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      return errno == EAGAIN || errno == EWOULDBLOCK ? State::blocked : State::broken;
    }
    out_sent_ += static_cast<size_t>(sent);
  }
  out_.clear();
  out_sent_ = 0;
  if (out_.capacity() > kIdleBytes) Bytes().swap(out_);
  return State::done;
}

ByteStream::Received TlsStream::receive(MutableByteView space) {
  std::lock_guard lock(mutex_);
  ERR_clear_error();
  size_t got = 0;
  const int done = SSL_read_ex(ssl_, space.data(), space.size(), &got);
  if (!out_.empty() && send_out() == State::broken) return {};  // an answer of OpenSSL's own
  if (done == 1) {
    waits_for_room_ = false;
    return {State::done, got, !drained_ || SSL_has_pending(ssl_) == 1};
  }
  const int error = SSL_get_error(ssl_, done);
  ERR_clear_error();
  waits_for_room_ = error == SSL_ERROR_WANT_WRITE;
  const bool later = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
  return {later ? State::blocked : State::broken, 0, false};
}

// One record of what is offered: a large part as it lies there, small ones copied together. What
// was refused is offered again as it was, or with more behind it: then OpenSSL goes on with the
// record that it has begun. False: refused, or broken (see SSL_get_error).
bool TlsStream::write_record(std::span<const iovec>& parts, size_t& offset, size_t& taken) {
  const auto view = [&](size_t i) {
    const ByteView whole(static_cast<const uint8_t*>(parts[i].iov_base), parts[i].iov_len);
    return i == 0 ? whole.subspan(offset) : whole;
  };
  ByteView record = view(0);
  if (record.size() < kRecordBytesMax && parts.size() > 1) {
    gathered_.clear();
    for (size_t i = 0; i < parts.size() && gathered_.size() < kRecordBytesMax; ++i) {
      const ByteView bytes = view(i);
      const size_t room = std::min(bytes.size(), kRecordBytesMax - gathered_.size());
      gathered_.insert(gathered_.end(), bytes.begin(), bytes.begin() + room);
    }
    record = gathered_;
  }
  record = record.first(std::min(record.size(), kRecordBytesMax));
  size_t sent = 0;
  if (SSL_write_ex(ssl_, record.data(), record.size(), &sent) != 1) return false;
  taken += sent;
  for (offset += sent; !parts.empty() && offset >= parts[0].iov_len; parts = parts.subspan(1))
    offset -= parts[0].iov_len;
  return true;
}

ByteStream::Sent TlsStream::send(std::span<const iovec> parts) {
  std::lock_guard lock(mutex_);
  if (const State state = send_out(); state != State::done) return {state, 0};
  ERR_clear_error();
  size_t offset = 0, taken = 0;
  while (!parts.empty() && parts[0].iov_len == 0) parts = parts.subspan(1);
  while (!parts.empty() && out_.size() + kRecordBytesMax + kRecordOverheadMax <= kGatheredBytes) {
    if (out_.empty()) out_.reserve(room_for(parts));
    if (write_record(parts, offset, taken)) continue;
    const int error = SSL_get_error(ssl_, 0);
    ERR_clear_error();
    const bool later = error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ;
    if (!later) return {};
    break;
  }
  if (send_out() == State::broken) return {};
  return {taken > 0 || parts.empty() ? State::done : State::blocked, taken};
}

ByteStream::State TlsStream::flush() {
  std::lock_guard lock(mutex_);
  return send_out();
}

void TlsStream::finish_sending() {
  std::lock_guard lock(mutex_);
  ERR_clear_error();
  (void)SSL_shutdown(ssl_);
  (void)send_out();
  ERR_clear_error();
  ::shutdown(fd_, SHUT_WR);
}

}  // namespace datacloud
