"""The resizing as a part of a graph, for programs that have no Pillow."""

from __future__ import annotations

from collections.abc import Mapping

from zeroflaw.errors import needing

CUBIC = -0.5  # Pillow's bicubic


def with_resizing(data: bytes, inputs: Mapping[str, int]) -> bytes:
    """Put the resizing before a graph, so that it takes ``image``, uint8 (B, H, W, 3) of any size."""
    with needing("writing ONNX files"):
        import onnx
    helper, kinds = onnx.helper, onnx.TensorProto
    model = onnx.load_from_string(data)
    nodes = [
        helper.make_node("Transpose", ["image"], ["image_planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["image_planes"], ["image_float"], to=kinds.FLOAT),
    ]
    limits = {"least": 0.0, "half": 0.5, "most": 255.0}
    model.graph.initializer.extend(helper.make_tensor(n, kinds.FLOAT, [], [v]) for n, v in limits.items())
    for name, size in inputs.items():
        model.graph.initializer.append(helper.make_tensor(f"{name}_size", kinds.INT64, [1], [size]))
        found = "image_float"
        for axis, side in ((3, "columns"), (2, "rows")):  # Pillow rounds between the two, which maps feel
            nodes += [
                helper.make_node(
                    "Resize",
                    [found, "", "", f"{name}_size"],
                    [f"{name}_{side}"],
                    mode="cubic",
                    cubic_coeff_a=CUBIC,
                    antialias=1,
                    axes=[axis],
                    coordinate_transformation_mode="half_pixel",
                ),
                helper.make_node("Add", [f"{name}_{side}", "half"], [f"{name}_{side}_half"]),
                helper.make_node("Floor", [f"{name}_{side}_half"], [f"{name}_{side}_rounded"]),
                helper.make_node(
                    "Clip", [f"{name}_{side}_rounded", "least", "most"], [f"{name}_{side}_clipped"]
                ),
            ]
            found = f"{name}_{side}_clipped"
        nodes += [
            helper.make_node("Cast", [found], [f"{name}_bytes"], to=kinds.UINT8),
            helper.make_node("Transpose", [f"{name}_bytes"], [name], perm=[0, 2, 3, 1]),
        ]
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    del model.graph.input[:]
    shape: list[str | int | None] = ["batch", "height", "width", 3]
    model.graph.input.append(helper.make_tensor_value_info("image", kinds.UINT8, shape))
    return bytes(model.SerializeToString())
