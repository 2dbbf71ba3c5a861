#include "runtime/tied_exchange.h"

#include <ATen/ops/empty.h>

#include <map>
#include <memory>

namespace shardwise {
namespace {

std::vector<std::int64_t> shape_of(const Box& box) {
  std::vector<std::int64_t> shape;
  for (std::size_t d = 0; d < box.begin.size(); ++d) {
    shape.push_back(box.end[d] - box.begin[d]);
  }
  return shape;
}

}  // namespace

at::Tensor part_of(const at::Tensor& tensor, const Box& box) {
  at::Tensor part = tensor;
  for (std::size_t d = 0; d < box.begin.size(); ++d) {
    part = part.narrow(static_cast<std::int64_t>(d), box.begin[d], box.end[d] - box.begin[d]);
  }
  return part;
}

std::vector<ReceivedPart> exchange_tied(const std::vector<TiedMessage>& messages,
                                        const at::Tensor& source,
                                        at::ScalarType type,
                                        Communicator& communicator) {
  std::vector<ReceivedPart> received;
  std::vector<at::Tensor> sent;
  std::map<int, at::Tensor> own;  // by tag
  std::vector<std::unique_ptr<Message>> under_way;
  for (const TiedMessage& message : messages) {
    if (message.sends) {
      const at::Tensor part = part_of(source, message.box).contiguous();
      if (message.peer == communicator.rank()) {
        own[message.tag] = part;
        continue;
      }
      sent.push_back(part);
      under_way.push_back(communicator.post_send(
          part.const_data_ptr(), message.bytes.count, message.peer, message.tag));
    }
  }
  for (const TiedMessage& message : messages) {
    if (message.sends) {
      continue;
    }
    if (message.peer == communicator.rank()) {
      received.push_back({message.box, own.at(message.tag)});
      continue;
    }
    const at::Tensor values = at::empty(shape_of(message.box), type);
    under_way.push_back(communicator.post_receive(
        values.mutable_data_ptr(), message.bytes.count, message.peer, message.tag));
    received.push_back({message.box, values});
  }
  for (const std::unique_ptr<Message>& message : under_way) {
    communicator.wait(*message);
  }
  return received;
}

}  // namespace shardwise
