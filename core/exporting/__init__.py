"""Take networks to other programs: ONNX files, web pages, repositories of the Hugging Face Hub."""
