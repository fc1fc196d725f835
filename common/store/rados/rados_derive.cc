// Deriving at a RADOS site (rados_compute.h).
//
// With the class: one operation creates the object exclusively as a copy of the source, inside the
// cluster; a second one, the class's xor, turns the copy into the new object, if and only if the
// copy says it is the source's instance. So an object is derived when its instance says so, and
// never half. Where the class turns out to be missing after the copy was made, the same guard
// replaces its contents from outside. Without the class: read, compute, create.
#include "common/store/object_compute.h"
#include "common/store/rados/osd_class_abi.h"
#include "common/store/rados/rados_attributes.h"
#include "common/store/rados/rados_class.h"
#include "common/store/rados/rados_compute.h"
#include "common/store/rados/rados_operations.h"

namespace datacloud {
namespace {

using Call = std::shared_ptr<RadosCall<DeriveReply>>;
using Shared = std::shared_ptr<const Derivation>;

uint64_t bytes_sent(const Derivation& derivation) {
  uint64_t bytes = 0;
  for (const auto& range : derivation.data) bytes += range.bytes.size();
  for (const auto& range : derivation.tags) bytes += range.bytes.size();
  return bytes;
}

// The copy is not going to be anything: removes it, as far as that works, and answers.
void give_up(const Call& call, Error error) {
  librados::ObjectWriteOperation op;
  op.remove();
  call->pool().write(call->name(), op,
                     [call, error = std::move(error)](int) { call->answer(failure(error)); });
}

// Reads `from`, the source or its copy, and runs `next` with what is derived from it.
template <class Next>
void compute(const Call& call, const std::string& from, const Shared& derivation, Next next) {
  rados_read(call->pool(), from, {{0, kObjectBytesMax}}, true,
             [call, derivation, next](int rc, result<ReadReply> read) {
               if (rc < 0) return call->fail(rc);
               if (!read) return call->answer(failure(read.error()));
               auto shared = std::make_shared<ReadReply>(std::move(read).value());
               call->calls().workers.post([call, derivation, next, shared] {
                 auto made = derive_object(std::move(shared->ranges[0]),
                                           std::move(shared->attributes), *derivation);
                 if (made && !check_rados_attributes(made.value().attributes)) {
                   made = failure(Errc::corrupt, "its attributes would exceed 64 KiB");
                 }
                 next(std::move(made));
               });
             });
}

void derive_outside(const Call& call, const Shared& derivation) {
  compute(call, derivation->source, derivation, [call](result<DerivedObject> made) {
    if (!made) return call->answer(failure(made.error()));
    const DeriveReply reply{made.value().bytes_transferred};
    rados_create(call->pool(), call->name(), Payload::from(std::move(made.value().data)),
                 made.value().attributes, [call, reply](int rc) {
                   rc < 0 ? call->fail(rc, Errc::io) : call->answer(reply);
                 });
  });
}

// What the class would have done to the copy, under the same guard.
void replace_copy(const Call& call, const Shared& derivation) {
  compute(call, call->name(), derivation, [call, derivation](result<DerivedObject> made) {
    if (!made) return give_up(call, made.error());
    const DeriveReply reply{made.value().bytes_transferred};
    const auto guard = shard_attributes(derivation->source_instance, {}).at(kInstanceAttribute);
    librados::ObjectWriteOperation op;
    op.cmpxattr(rados_xattr(kInstanceAttribute).c_str(), LIBRADOS_CMPXATTR_OP_EQ,
                bufferlist_of(as_bytes(guard)));
    auto data = bufferlist_of(made.value().data);
    op.write_full(data);
    for (const auto& [name, value] : made.value().attributes) {
      op.setxattr(rados_xattr(name).c_str(), bufferlist_of(as_bytes(value)));
    }
    call->pool().write(call->name(), op, [call, reply](int rc) {
      rc < 0 ? call->fail(rc, Errc::io) : call->answer(reply);
    });
  });
}

void xor_copy(const Call& call, const Shared& derivation) {
  rados_class_write(
      call->pool(), call->name(), kClassXorMethod, encode_xor_request(*derivation),
      [call, derivation](int rc) {
        if (rc >= 0) return call->answer(DeriveReply{bytes_sent(*derivation)});
        if (rados_class_is_missing(call->pool(), rc)) return replace_copy(call, derivation);
        if (call->pool().closing()) return call->fail(-ETIMEDOUT);
        if (rc == -ECANCELED) {
          return give_up(call,
                         Error(Errc::corrupt, derivation->source + " is not instance " +
                                                  std::to_string(derivation->source_instance)));
        }
        if (rc == -EBADMSG) {
          return give_up(call,
                         Error(Errc::corrupt, "the instance or the tags of " + derivation->source +
                                                  " are not what they must be"));
        }
        if (rc == -ENOSPC || rc == -EDQUOT) return give_up(call, rados_error(rc, "Ceph answered"));
        call->fail(rc, Errc::io);
      });
}

void copy_then_xor(const Call& call, const Shared& derivation) {
  librados::ObjectWriteOperation op;
  op.create(true);
  op.copy_from(derivation->source, call->pool().io(), 0, 0);
  call->pool().write(call->name(), op, [call, derivation](int rc) {
    if (rc == -EOPNOTSUPP) return derive_outside(call, derivation);  // nothing was made
    rc < 0 ? call->fail(rc) : xor_copy(call, derivation);
  });
}

}  // namespace

void rados_derive(std::shared_ptr<RadosCall<DeriveReply>> call, Derivation derivation) {
  auto shared = std::make_shared<const Derivation>(std::move(derivation));
  with_rados_class(call->shared_pool(), [call, shared](bool there) {
    there ? copy_then_xor(call, shared) : derive_outside(call, shared);
  });
}

}  // namespace datacloud
