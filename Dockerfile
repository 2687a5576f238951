# launch.serve: docker build -t detector . && docker run -p 8000:8000 -v "$PWD/detector:/detector:ro" detector
FROM python:3.11-slim

WORKDIR /app
COPY . .
RUN pip install --no-cache-dir '.[serve]' && useradd --create-home --uid 1000 serve
USER serve

ENV PYTHONUNBUFFERED=1
EXPOSE 8000
HEALTHCHECK --start-period=60s --interval=10s --timeout=5s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["python", "-m", "launch.serve", "--detector=/detector", "--host=0.0.0.0", "--port=8000"]
