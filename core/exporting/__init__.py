"""Take networks to other programs: ONNX, Core ML and LiteRT files, web pages, repositories of the Hugging Face Hub."""
