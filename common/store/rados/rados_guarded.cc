// Guarded objects at a RADOS site: each call is one compound operation. Objects' names begin with a
// dot, so that listings of the object store at the same place do not show them.
//
// RADOS compares a number only with an attribute that is decimal text below 2^63. A guard that does
// not hold answers ECANCELED, as an operation does that was given up: the one says that nothing has
// happened, the other nothing at all.
#include "common/store/rados/rados_guarded.h"

#include <cerrno>

#include "common/store/rados/rados_attributes.h"
#include "common/store/rados/rados_call.h"

namespace datacloud {
namespace {

constexpr size_t kViewBytesMax = size_t{64} << 20;

librados::bufferlist list_of(std::string_view text) {
  librados::bufferlist list;
  list.append(text.data(), static_cast<unsigned>(text.size()));
  return list;
}

struct ViewState {
  uint64_t size = 0;
  std::map<std::string, librados::bufferlist> xattrs;
  librados::bufferlist bytes;
};

class RadosGuarded final : public GuardedObjects {
 public:
  explicit RadosGuarded(RadosOptions options) : calls_(std::move(options)) {}
  ~RadosGuarded() override { calls_.session.close(); }

  void create(const std::string& name, Attributes attributes, Callback<void> callback) override {
    auto call = RadosCall<void>::start(calls_, "create", name, 0, std::move(callback));
    if (!call) return;
    call->enter([call, attributes = std::move(attributes)] {
      librados::ObjectWriteOperation op;
      op.create(true);
      for (const auto& [key, value] : attributes) op.setxattr(key.c_str(), list_of(value));
      call->pool().write(call->name(), op, answer_of(call));
    });
  }

  void change(const std::string& name, GuardedChange change, Callback<void> callback) override {
    const size_t size = change.append ? change.append->size() : 0;
    auto call = RadosCall<void>::start(calls_, "change", name, size, std::move(callback));
    if (!call) return;
    call->enter([call, change = std::move(change)] {
      librados::ObjectWriteOperation op;
      op.assert_exists();  // an append would make the object
      for (const auto& guard : change.guards) {
        if (guard.is == AttributeGuard::Is::same) {
          op.cmpxattr(guard.attribute.c_str(), LIBRADOS_CMPXATTR_OP_EQ, list_of(guard.text));
        } else {
          op.cmpxattr(guard.attribute.c_str(), LIBRADOS_CMPXATTR_OP_GT, guard.number);
        }
      }
      if (change.append && !change.append->empty()) {
        op.append(list_of(as_text(*change.append)));
      }
      for (const auto& [key, value] : change.set) op.setxattr(key.c_str(), list_of(value));
      call->pool().write(call->name(), op, answer_of(call));
    });
  }

  void view(const std::string& name, ByteRange range, Callback<ObjectView> callback) override {
    if (range.length > kViewBytesMax) {
      return callback(failure(Errc::invalid, "view " + name + ": above 64 MiB"));
    }
    auto call = RadosCall<ObjectView>::start(calls_, "view", name, 0, std::move(callback));
    if (!call) return;
    call->enter([call, range] {
      auto state = std::make_shared<ViewState>();
      librados::ObjectReadOperation op;
      op.stat2(&state->size, nullptr, nullptr);
      op.getxattrs(&state->xattrs, nullptr);
      if (range.length > 0) op.read(range.offset, range.length, &state->bytes, nullptr);
      call->pool().read(call->name(), op, [call, state, range](int rc) {
        if (rc < 0) return call->fail(rc);
        ObjectView view;
        view.size = state->size;
        for (auto& [key, value] : state->xattrs) view.attributes[key] = value.to_str();
        view.bytes = bytes_of(state->bytes);
        if (view.bytes.size() > range.length) {
          return call->answer(failure(Errc::corrupt, "more bytes came than were asked for"));
        }
        call->answer(std::move(view));
      });
    });
  }

  void remove(const std::string& name, Callback<void> callback) override {
    auto call = RadosCall<void>::start(calls_, "remove", name, 0, std::move(callback));
    if (!call) return;
    call->enter([call] {
      librados::ObjectWriteOperation op;
      op.remove();
      call->pool().write(call->name(), op, answer_of(call));
    });
  }

  result<size_t> append_unit() override {
    return wait_for<size_t>([this](Callback<size_t> callback) {
      auto call = RadosCall<size_t>::start(calls_, "look at", "", 0, std::move(callback));
      if (!call) return;
      call->enter([this, call] {
        // Asks the map of the cluster, which librados has; another thread, for it may wait for it.
        calls_.blocking.post([call] {
          bool required = false;
          if (int rc = call->pool().io().pool_requires_alignment2(&required); rc < 0) {
            return call->fail(rc);
          }
          uint64_t unit = 1;
          if (required) {
            if (int rc = call->pool().io().pool_required_alignment2(&unit); rc < 0) {
              return call->fail(rc);
            }
          }
          call->answer(static_cast<size_t>(unit == 0 ? 1 : unit));
        });
      });
    });
  }

  std::string location() const override { return rados_place(calls_.session.options()); }

 private:
  static RadosPool::Done answer_of(const std::shared_ptr<RadosCall<void>>& call) {
    return [call](int rc) {
      if (rc >= 0) return call->answer(success());
      if (rc == -ECANCELED && !call->pool().closing()) {
        return call->answer(failure(Errc::stale, "a guard does not hold"));
      }
      call->fail(rc);
    };
  }

  mutable RadosCalls calls_;
};

}  // namespace

std::unique_ptr<GuardedObjects> make_rados_guarded(RadosOptions options) {
  return std::make_unique<RadosGuarded>(std::move(options));
}

}  // namespace datacloud
