// Calling the OSD class (rados_class.h).
#include "common/store/rados/rados_class.h"

#include <cerrno>

#include "common/base/log.h"
#include "common/store/rados/osd_class_abi.h"
#include "common/store/rados/rados_attributes.h"

namespace datacloud {
namespace {

using State = RadosPool::ClassState;

void remember(RadosPool& pool, State state) {
  if (pool.class_state.exchange(state) == state) return;
  const auto& options = pool.cluster().options();
  if (state == State::there) {
    spdlog::info("site {}: the OSDs of {} have the class {}", options.site, rados_place(options),
                 kClassName);
  } else {
    spdlog::info("site {}: the OSDs of {} do not run the class {}; its work is done from here",
                 options.site, rados_place(options), kClassName);
  }
}

}  // namespace

bool rados_class_is_missing(RadosPool& pool, int rc) {
  if (rc != -EOPNOTSUPP && rc != -EPERM && rc != -EACCES && rc != -EPROTONOSUPPORT) return false;
  remember(pool, State::missing);
  return true;
}

void probe_rados_class(const std::shared_ptr<RadosPool>& pool, std::function<void()> done) {
  const Combination first_byte{{{0, 1}}, {{1}}};
  rados_class_read(*pool, std::string(kRadosMarkerName), kClassCombineMethod,
                   encode_combine_request(first_byte),
                   [pool, first_byte, done = std::move(done)](int rc, Bytes bytes) {
                     CombineReply reply;
                     if (rc >= 0 && decode_combine_reply(bytes, first_byte, reply)) {
                       remember(*pool, State::there);
                     } else {
                       (void)rados_class_is_missing(*pool, rc);
                     }
                     done();
                   });
}

void with_rados_class(const std::shared_ptr<RadosPool>& pool, std::function<void(bool)> done) {
  const State state = pool->class_state;
  if (state != State::unknown) return done(state == State::there);
  probe_rados_class(pool,
                    [pool, done = std::move(done)] { done(pool->class_state == State::there); });
}

void rados_class_read(RadosPool& pool, const std::string& name, const char* method,
                      const Bytes& request, std::function<void(int, Bytes)> done) {
  auto reply = std::make_shared<librados::bufferlist>();
  librados::bufferlist in = bufferlist_of(request);
  librados::ObjectReadOperation op;
  op.exec(kClassName, method, in, reply.get(), nullptr);
  pool.read(name, op, [reply, done = std::move(done)](int rc) {
    done(rc, rc < 0 ? Bytes() : bytes_of(*reply));
  });
}

void rados_class_write(RadosPool& pool, const std::string& name, const char* method,
                       const Bytes& request, RadosPool::Done done) {
  librados::bufferlist in = bufferlist_of(request);
  librados::ObjectWriteOperation op;
  op.exec(kClassName, method, in);
  pool.write(name, op, std::move(done));
}

}  // namespace datacloud
